"""What keeps endpoints out of rotation: a filter before `pick`. `set_aside` is for failed connects."""

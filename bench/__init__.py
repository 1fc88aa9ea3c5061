"""What podlb costs beside other load balancers: `python bench/run.py`; see bench/README.md."""

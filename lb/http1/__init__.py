"""HTTP/1.1 (RFC 9112) as a pure core: bytes in, values out; no sockets, no clock.

`message`     the one normalised head type, whoever parsed it, and the one error for bad input
`head`        bytes → RequestHead or ResponseHead: a fast recogniser, and h11 behind it
`framing`     how long a body is, and taking it out of the stream
`forwarding`  the head we received → the head we send
`replies`     our own responses, as bytes
"""

"""HTTP/1.1 messages, server-sent events, content codings, multipart bodies: bytes in, values out."""

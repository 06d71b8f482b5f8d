"""The web page of the server: its files, and the gateway between the page's WebSocket and the server's own gRPC."""

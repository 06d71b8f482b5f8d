"""What `maskstream doctor` looks at: machine, engines, video, ports, extras; and its verdict."""

"""Downloads: yt-dlp in processes of their own, which reach nothing but what our egress proxy lets them reach."""

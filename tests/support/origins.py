"""Origins of pages that may connect, and of all kinds of pages that look like them and may not."""

from __future__ import annotations

LISTED = (
    "https://app.example.com",
    "http://localhost:3000",
    "https://*.wild.example.org",
    "capacitor://localhost",
    "http://[::1]:3000",
)

REFUSED = [
    "https://app.example.com.evil.io",  # ours as the beginning
    "https://evil.io/https://app.example.com",
    "https://evil.io?https://app.example.com",
    "https://evil.io#https://app.example.com",
    "https://evilapp.example.com",
    "https://xapp.example.com",
    "https://example.com",  # the parent
    "https://sub.app.example.com",  # a child
    "http://app.example.com",  # the other scheme
    "wss://app.example.com",
    "ftp://app.example.com",
    "https://app.example.com:8443",  # another port
    "https://app.example.com:80",
    "https://app.example.com:0",
    "http://localhost",
    "http://localhost:3001",
    "https://localhost:3000",
    "http://127.0.0.1:3000",
    "https://user@app.example.com",  # user info
    "https://app.example.com@evil.io",
    "https://app.example.com:443@evil.io",
    "https://@app.example.com",
    "https://app.example.com\\@evil.io",
    "https://app.example.com%2eevil.io",
    "https://app.example.com.",  # a name of its own to browsers
    "https://app.example.com/",  # no origin has a path
    "https://app.example.com/path",
    "https://app.example.com:port",
    "https://app.example.com:99999",
    "https://[::1",
    "https://[::1]",
    "https:app.example.com",
    "//app.example.com",
    "app.example.com",
    "https://",
    "https://:443",
    "null",
    "",
    " ",
    "*",
    "https://*",
    "https://*.wild.example.org",
    "file://",
    "data:text/html,x",
    "chrome-extension://abcdef",
    "javascript://app.example.com",
    "https://app.example.com https://app.example.com",
    "https://app.example.com,https://evil.io",
    "https://wild.example.org",  # the pattern wants a label more
    "https://evilwild.example.org",
    "https://.wild.example.org",
    "https://a.wild.example.org.evil.io",
    "http://a.wild.example.org",
    "https://a.wild.example.org:8443",
    "https://xn--pp-fka.example.com",  # looks alike
    "https://äpp.example.com",
    " https://app.example.com",  # HTTP has taken away what may stand around a value
    "https://app.example.com ",
    "https://app.example.com\xa0",
    "https://app.exam\tple.com",
    "https://app.example\n.com",
    "https://app.example.com\x00",
    "https://app.example.com\x1f",
    "https://app.example.com\x7f",
    "\ufeffhttps://app.example.com",
    "https://app.example.com:",
    "https://app.example.com:0443",
    "https://app.example.com:00443",
    "https://app.example.com:٤٤٣",
    "https://app.example.com:+443",
    "https://app.example.com:65979",  # 443 in sixteen bits
    "https://APP.EXAMPLE.\u212aom",
    "https://app.example.com;https://evil.io",
    "https://app.example.com\\.evil.io",
    "https://app。example。com",
    "https:///app.example.com",
    "https:/app.example.com",
    "https:\\\\app.example.com",
    "capacitor://localhost:80",
    "capacitor://evil",
    "ionic://localhost",
    "http://[::1]",
    "http://[0:0:0:0:0:0:0:1]:3000",
    "http://[::1%25lo]:3000",
    "http://[::ffff:127.0.0.1]:3000",
    "http://2130706433:3000",
    "undefined",
]

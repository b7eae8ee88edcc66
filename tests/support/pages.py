"""What tests ask of a page: that its tags close, what it says, and whether it asks for anything outside itself."""

import re
from html.parser import HTMLParser

OUTSIDE = re.compile(
    r"https?://|//[a-z]|<script\b[^>]|<link(?! rel=\"icon\" href=\"data:,\")|@import|url\(", re.IGNORECASE
)
_VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags close, and keeps the text and what a reader who cannot see is told."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.figures = [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "img" or ("role", "img") in attrs:
            self.figures.append(dict(attrs).get("alt") or dict(attrs).get("aria-label"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_data(self, data):
        self.text.append(data)

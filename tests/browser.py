"""Headless Chromium, driven through ChromeDriver's own protocol (W3C WebDriver): real clicks, and screenshots."""

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # how WebDriver calls a reference to an element
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--window-size=1100,800",
]


def available() -> bool:
    return shutil.which("chromedriver") is not None and shutil.which("chromium") is not None


class Browser:
    """One page. Finds elements by XPath."""

    def __init__(self, profile: Path):
        self.process = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        port = next(line.split("port ")[-1].strip(" .\n") for line in self.process.stdout if "successfully on port" in line)
        self.root = f"http://127.0.0.1:{port}/session"
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        self.root += "/" + self._ask("POST", "", {"capabilities": capabilities})["sessionId"]

    def _ask(self, method: str, path: str, content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.root + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=150) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path} {content}: {json.load(error)['value']['message']}") from error

    def open(self, address: str) -> None:
        self._ask("POST", "/url", {"url": address})

    def find(self, path: str, *, seconds: float = 30.0) -> str:
        """The first element that `path` names, as soon as there is one."""
        until = time.monotonic() + seconds
        while True:
            found = self._ask("POST", "/elements", {"using": "xpath", "value": path})
            if found:
                return found[0][ELEMENT]
            assert time.monotonic() < until, f"nothing on the page is {path}: {self.text()[:500]}"
            time.sleep(0.2)

    def click(self, path: str) -> None:
        self._ask("POST", f"/element/{self.find(path)}/click", {})

    def press(self, path: str, key: str) -> None:
        """Press a key on an element; arrows are "\\ue012" (left) to "\\ue015" (down)."""
        script = "arguments[0].scrollIntoView(); return arguments[0].getBoundingClientRect().width"
        until = time.monotonic() + 30
        element = {ELEMENT: self.find(path)}
        while not self._ask("POST", "/execute/sync", {"script": script, "args": [element]}):  # still being laid out
            assert time.monotonic() < until, f"{path} has no size"
            time.sleep(0.3)
            element = {ELEMENT: self.find(path)}
        self._ask("POST", f"/element/{element[ELEMENT]}/value", {"text": key})

    def run(self, script: str) -> Any:
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def text(self) -> str:
        return self.run("return document.body.innerText")

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))

    def close(self) -> None:
        try:
            self._ask("DELETE", "")
        finally:
            self.process.terminate()
            self.process.wait(timeout=10)

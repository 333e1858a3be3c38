"""The icon that hosts show beside the server and its tools: the plugin's icon at 48 by 48 pixels, as a `data:` URL.

Hosts show it to people; it is no part of what a model reads. Source: the MCP specification, 2025-11-25, basic, icons.
"""

from __future__ import annotations

from typing import Any, Final

_PNG: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAADAAAAAwBAMAAAClLOS0AAAAMFBMVEUWGS4BAgZehP0WGS5GZ90xQXrytVk+XdIWGS4mMmH+xl02SpWMbkZy"
    "XEEAAGpdTTw3S2CaAAAAEHRSTlP9Av+F//7//2v+//7+/gL+4McwtQAAAX9JREFUeNqNlL9Lw1AQxz95TW1rK83DSURwEEGkQ+mm4OTSQeji"
    "v+AiQvcubqWLBLf+E5LFVTo4+QOLjoUSxMVBUCiE0B86vKRJmlfwpsv3k7v37nIXQ6I3EyB37sSkbN0GkFJeLr6dl1IaEvGVymNYCEjr/IJY"
    "e9Ed/U1G5HsakM+y5LpSLCpP/aCOXFJ/GE4AaGZKo7hePrj72O8DP2KcCPBgcgKA0BahB+jACjCKuhvZ6P6YXeWuJ0nprAxAdRGEVv3v4TpQ"
    "XwKKQ1sP2lvbCZBZ9ZTjm/1BTN+YR7j4ti7VNfCpAQUHMq8aMHZhuqcBNwD9egoUmgDMgNsECL5vxaFwYcfBTD28denQjYFCUPR0bDv4jQhE"
    "k7LjwiACR/MGXQGeE4KiG4KKC9AKQXueSc2t5wBmFoIFrMGj8lpqfIrv6krPEOT0nEbD9PFVFcNYP2wwIVtLTcJhzya9zGqhkZYOGFJg6ICF"
    "AE2IAQKM9C/DAkMCuc2EftohADr7A+D6VHpPkYgaAAAAAElFTkSuQmCC"
)
ICONS: Final[list[dict[str, Any]]] = [
    {"src": f"data:image/png;base64,{_PNG}", "mimeType": "image/png", "sizes": ["48x48"]}
]

"""The words that say how a picture looks and how its things stand to each other."""

from __future__ import annotations

from engine.scene import COLOURS

COLOUR_WORDS = {name: name for name in COLOURS} | {
    "gray": "grey", "silver": "grey", "crimson": "red", "scarlet": "red", "maroon": "red",
    "golden": "yellow", "navy": "dark blue", "navy blue": "dark blue", "violet": "purple",
    "lilac": "purple", "magenta": "pink", "rose": "pink", "turquoise": "teal", "cyan": "teal",
    "sky blue": "light blue", "baby blue": "light blue", "pale blue": "light blue",
    "bright blue": "blue", "forest green": "dark green", "deep green": "dark green",
    "bright green": "green", "lime": "green", "light green": "green", "cream": "beige",
    "tan": "beige", "dark red": "red", "bright red": "red", "light grey": "grey",
    "dark grey": "grey", "light gray": "grey", "dark gray": "grey", "hot pink": "pink",
    "indigo": "dark blue", "dark purple": "purple", "dark brown": "brown", "lavender": "purple",
    "ivory": "beige", "coral": "orange", "amber": "orange",
}  # fmt: skip
LOOK_WORDS = {
    "flat": 0, "vector": 0, "minimal": 0, "minimalist": 0, "cartoon": 1, "cartoonish": 1,
    "comic": 1, "toon": 1, "3d": 2, "3-d": 2, "clay": 2, "three-dimensional": 2,
}  # fmt: skip
BACKGROUND = {"background", "backdrop", "backgrounds"}
ARTICLES = {"a", "an", "the", "some", "its", "their", "my", "your", "our", "his", "her", "this"}
PREPOSITIONS = {
    "on", "in", "at", "with", "against", "over", "of", "for", "from", "during", "without", "that",
    "which", "to", "before", "as", "like", "is", "are", "made", "has", "by",
}  # fmt: skip
OF = {"of", "in", "with", "and"}
FILLER = {
    "picture", "image", "icon", "drawing", "draw", "illustration", "photo", "please", "show", "me",
    "paint", "painting", "emoji", "sticker", "create", "make", "generate", "i", "want", "give",
    "cute", "nice", "beautiful", "simple", "pretty", "just", "colored", "coloured", "color",
    "colour", "very", "sketch", "there", "us", "can", "you", "would", "single", ".",
}  # fmt: skip
MEDIA = {
    "watercolour", "watercolor", "watercolours", "watercolors", "oil", "acrylic", "pencil", "ink",
    "charcoal", "pastel", "crayon", "pixel", "art", "digital", "photograph", "portrait", "close-up",
    "closeup", "artwork", "clipart", "doodle", "line", "print", "logo",
}  # fmt: skip
"""With FILLER, what pictures are made of: before "of", or behind "in" or a comma at the end."""
CLAUSES = {"that", "which", "who", "whose", "where", "when", "you"}
"""What follows says what the thing before is like."""
HOLLOW = {"it", "what", "something", "thing", "things", "someone"}
"""A prompt that begins with these describes a thing and does not name it."""
SIZES = {
    "small": True, "tiny": True, "little": True, "mini": True, "miniature": True, "big": False,
    "large": False, "huge": False, "giant": False, "enormous": False,
}  # fmt: skip
COUNTS = {
    "two": 2, "2": 2, "pair": 2, "couple": 2, "twin": 2, "both": 2, "three": 3, "3": 3, "trio": 3,
    "several": 3, "many": 3, "four": 3, "4": 3, "five": 3, "few": 3, "bunch": 3,
}  # fmt: skip
PLACES: dict[str, tuple[int | None, int | None]] = {
    "top": (None, 0), "upper": (None, 0), "bottom": (None, 2), "lower": (None, 2),
    "left": (0, None), "right": (2, None), "middle": (1, 1), "centre": (1, 1), "center": (1, 1),
    "top-left": (0, 0), "top-right": (2, 0), "bottom-left": (0, 2), "bottom-right": (2, 2),
}  # fmt: skip
PLACE_ENDS = {"corner", "side", "part", "hand", "edge", "half"}
LEFT, RIGHT, ABOVE, BELOW, ANYHOW = "left", "right", "above", "below", "anyhow"
RELATIONS = {
    "to the left of": LEFT, "on the left of": LEFT, "left of": LEFT, "to the right of": RIGHT,
    "on the right of": RIGHT, "right of": RIGHT, "above": ABOVE, "over": ABOVE, "atop": ABOVE,
    "on top of": ABOVE, "below": BELOW, "under": BELOW, "underneath": BELOW, "beneath": BELOW,
    "next to": LEFT, "beside": LEFT, "near": ANYHOW, "by": ANYHOW, "alongside": LEFT,
    "close to": ANYHOW, "and": ANYHOW, "with": ANYHOW, "plus": ANYHOW, "&": ANYHOW, "+": ANYHOW,
    ",": ANYHOW, ";": ANYHOW, "in front of": ANYHOW, "behind": ANYHOW, "holding": ANYHOW,
    "eating": ANYHOW, "wearing": ANYHOW, "in": ANYHOW, "on": ABOVE, "inside": ANYHOW, ".": ANYHOW,
    "together with": ANYHOW, "and also": ANYHOW, "versus": LEFT, "vs": LEFT, "hanging over": ABOVE,
    "floating above": ABOVE, "standing on": ABOVE, "sitting on": ABOVE, "riding": ABOVE,
}  # fmt: skip
"""How the first thing stands to the second."""
DESCRIBING = {
    "in", "on", "by", "inside", "holding", "eating", "wearing", "riding", "behind", "with",
    "sitting on", "standing on",
}  # fmt: skip
"""After these, only what the list names for sure is a second thing, beside one that is; else it
describes the first."""
SMILEYS = {"smiley": "face", "emoticon": "face", "smilie": "face"}
CONTAINERS = {
    "bowl", "cup", "slice", "piece", "bunch", "glass", "bottle", "plate", "box", "bag", "stack",
    "jar", "mug", "kind", "sort", "type", "basket", "pile", "loaf", "can", "group", "head",
}  # fmt: skip

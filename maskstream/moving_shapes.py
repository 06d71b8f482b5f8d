"""The bundled clip, rendered on the spot: textured things that move, turn, grow and hide each other over a scene.

It gives the demo, the benchmarks and the tests video with exact masks and nothing to download. Colours are shared
between things and scene, the camera and the light move, edges are soft and the picture is noisy, so that following it
takes more than a colour threshold. The same arguments give the same pixels on one machine.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from maskstream.masks import IdMap

F32 = npt.NDArray[np.float32]
Frame = npt.NDArray[np.uint8]  # [H, W, 3] RGB
Window = tuple[slice, slice]
Texture = Callable[[np.random.Generator, int, F32], F32]  # (rng, side, colours [C, 3]) -> [side, side, 3]

FRAMES_PER_SECOND = 24.0
DEFAULT_SEED = 11

_COURSE_FRAMES = 90  # in which the things run their course; a shorter clip shows the beginning of it
_SPRITE = 288  # pixels a side; things are drawn once at this size and warped into each frame
_NOISE_SIGMA = 2.5  # of 255, per channel, like a small camera in daylight
_NOISE_MARGIN = 64  # pixels by which the noise field is larger than a frame
_BLUR_SIGMA = 0.6  # pixels
_PALETTES = np.array(  # colours 0..1; each shares a tone with the scene below
    [
        [[0.85, 0.45, 0.20], [0.28, 0.17, 0.12], [0.95, 0.80, 0.55]],
        [[0.24, 0.42, 0.50], [0.80, 0.84, 0.78], [0.10, 0.18, 0.26]],
        [[0.62, 0.60, 0.26], [0.22, 0.34, 0.16], [0.90, 0.86, 0.60]],
        [[0.62, 0.24, 0.34], [0.90, 0.72, 0.70], [0.30, 0.12, 0.22]],
        [[0.45, 0.40, 0.62], [0.80, 0.76, 0.90], [0.18, 0.16, 0.30]],
    ],
    dtype=np.float32,
)
_SCENE_COLOURS = np.array(
    [[0.20, 0.26, 0.17], [0.42, 0.44, 0.26], [0.55, 0.46, 0.34], [0.70, 0.62, 0.48], [0.35, 0.45, 0.50]],
    dtype=np.float32,
)


@dataclass(frozen=True)
class RenderedClip:
    """Frames uint8 [H, W, 3] RGB and their exact id maps uint8 [H, W]; things are numbered 1..num_objects."""

    frames: list[Frame]
    id_maps: list[IdMap]
    frames_per_second: float = FRAMES_PER_SECOND


def render(
    num_frames: int = 90, size: tuple[int, int] = (480, 854), seed: int = DEFAULT_SEED, num_objects: int = 3
) -> RenderedClip:
    """The whole clip at `size` (height, width). Takes a few seconds at the default size."""
    frames, id_maps = [], []
    for frame, id_map in render_frames(num_frames, size, seed, num_objects):
        frames.append(frame)
        id_maps.append(id_map)
    return RenderedClip(frames, id_maps)


def render_frames(
    num_frames: int = 90, size: tuple[int, int] = (480, 854), seed: int = DEFAULT_SEED, num_objects: int = 3
) -> Iterator[tuple[Frame, IdMap]]:
    """The clip frame by frame, (frame, id map), when not all of it should be in memory. Raises ValueError."""
    if num_frames < 1 or min(size) < 16 or not 1 <= num_objects <= 255:
        raise ValueError("a clip has at least 1 frame, 16 pixels a side and 1..255 objects")
    rng = np.random.default_rng(seed)
    scene = _Scene(rng, size)
    things = [_Thing(rng, index, num_objects, size) for index in range(num_objects)]
    noise = _noise(rng, size)
    for index in range(num_frames):
        corner = np.random.default_rng((seed, index)).integers(0, _NOISE_MARGIN, 2)
        window = tuple(slice(start, start + length) for start, length in zip(corner, size, strict=True))
        yield _render_frame(scene, things, index / (_COURSE_FRAMES - 1), noise[window])


def _render_frame(
    scene: "_Scene", things: "list[_Thing]", time: float, noise: npt.NDArray[np.int16]
) -> tuple[Frame, IdMap]:
    picture = scene.at(time)
    id_map = np.zeros(picture.shape[:2], dtype=np.uint8)
    for object_id, thing in enumerate(things, start=1):
        window, colour, alpha, shadow = thing.at(time)
        behind = picture[window] * (1.0 - 0.45 * cv2.merge([shadow] * 3))
        picture[window] = behind + (colour - behind) * cv2.merge([alpha] * 3)
        id_map[window][alpha > 0.5] = object_id
    lit = cv2.multiply(picture, cv2.merge([scene.light(time)] * 3), dtype=cv2.CV_8U)
    soft = cv2.GaussianBlur(lit, (0, 0), _BLUR_SIGMA)
    return cv2.add(soft, noise, dtype=cv2.CV_8U), id_map  # type: ignore[return-value]


def _noise(rng: np.random.Generator, size: tuple[int, int]) -> npt.NDArray[np.int16]:
    """A field of sensor noise somewhat larger than a frame; each frame sees another part of it."""
    shape = (size[0] + _NOISE_MARGIN, size[1] + _NOISE_MARGIN, 3)
    return (rng.standard_normal(shape, dtype=np.float32) * _NOISE_SIGMA).round().astype(np.int16)


class _Scene:
    """A wide textured ground that a slowly moving, slightly turning camera looks at."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self._size = size
        height, width = size
        ground = _ground(rng, (round(1.5 * height), round(1.5 * width)))
        self._canvas = np.clip(ground * 255, 0, 255).astype(np.uint8)
        self._phase = rng.uniform(0, 2 * math.pi, 4)

    def at(self, time: float) -> Frame:
        """What the camera sees, uint8 [H, W, 3]."""
        height, width = self._size
        swing = np.sin(2 * math.pi * np.array([0.8, 1.1, 0.9, 0.6]) * time + self._phase)
        centre = (
            self._canvas.shape[1] / 2 + 0.14 * width * swing[0],
            self._canvas.shape[0] / 2 + 0.10 * height * swing[1],
        )
        matrix = cv2.getRotationMatrix2D(centre, 4.0 * swing[2], 1.1 + 0.08 * swing[3])
        matrix[:, 2] += (width / 2 - centre[0], height / 2 - centre[1])
        return cv2.warpAffine(self._canvas, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)  # type: ignore[return-value]

    def light(self, time: float) -> F32:
        """Gain [H, W]: the day brightens and dims a little, and a broad shade drifts across."""
        height, width = self._size
        gain = 1.0 + 0.10 * math.sin(2 * math.pi * (0.8 * time + 0.1))
        across = np.linspace(0, 1, 64)[None, :] + 0.3 * np.linspace(0, 1, 64)[:, None]
        coarse = gain - 0.14 * np.exp(-(((across - 1.6 * time) / 0.35) ** 2))
        return cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _ground(rng: np.random.Generator, size: tuple[int, int]) -> F32:
    """float32 [H, W, 3]: patches of earth, grass and stone with fine grain, and a scatter of pebbles."""
    side = max(size)
    tone = _fractal(rng, side, coarsest=4)[: size[0], : size[1]]
    grain = _fractal(rng, side, coarsest=48)[: size[0], : size[1]]
    ground = _ramp(np.clip(0.75 * tone + 0.35 * grain - 0.05, 0, 1), _SCENE_COLOURS)
    for _ in range(140):
        centre = (int(rng.integers(0, size[1])), int(rng.integers(0, size[0])))
        radius = side * rng.uniform(0.004, 0.022)
        colour = _SCENE_COLOURS[rng.integers(len(_SCENE_COLOURS))] * rng.uniform(0.7, 1.25)
        axes = (max(1, round(radius)), max(1, round(radius * rng.uniform(0.5, 1))))
        cv2.ellipse(ground, centre, axes, rng.uniform(0, 180), 0, 360, colour.tolist(), -1, cv2.LINE_AA)
    return ground * (0.85 + 0.3 * grain[..., None])


class _Thing:
    """One textured thing with its path through the frame."""

    def __init__(self, rng: np.random.Generator, index: int, num_objects: int, size: tuple[int, int]) -> None:
        self._size = size
        self._side = min(size) * 0.52 * min(1.0, math.sqrt(4 / (num_objects + 1)))  # pixels across, before it grows
        self._sprite, self._alpha = (_shrunk(layer, round(1.3 * self._side)) for layer in _sprite(rng, index))
        self._shadow_reach = min(size) / 30
        turn = index / num_objects
        self._phase = 2 * math.pi * turn + rng.uniform(-0.2, 0.2)
        self._direction = -1.0 if index % 2 else 1.0
        self._spin = rng.uniform(0.15, 0.4) * self._direction  # turns over the clip
        self._wobble = rng.uniform(0, 2 * math.pi, 3)

    def at(self, time: float) -> tuple[Window, F32, F32, F32]:
        """The part of the frame it touches, and there: colour [h, w, 3] 0..255, coverage and shadow [h, w] 0..1."""
        height, width = self._size
        angle = self._phase + self._direction * 2 * math.pi * 0.62 * time
        x = width * (0.5 + 0.33 * math.cos(angle))
        y = height * (0.5 + 0.24 * math.sin(1.7 * angle + self._wobble[0] / 6))
        scale = self._side / len(self._sprite) * (1.0 + 0.22 * math.sin(2 * math.pi * 0.9 * time + self._wobble[1]))
        stretch = 1.0 + 0.10 * math.sin(2 * math.pi * 1.7 * time + self._wobble[2])
        turned = 2 * math.pi * self._spin * time
        matrix = _placement(len(self._sprite), (x, y), turned, (scale * stretch, scale / stretch))
        reach = 0.75 * 1.1 * scale * len(self._sprite) + self._shadow_reach
        left, top = max(0, int(x - reach)), max(0, int(y - reach))
        right, bottom = min(width, int(x + reach) + 1), min(height, int(y + reach) + 1)
        matrix[:, 2] -= (left, top)
        there = (right - left, bottom - top)
        colour = cv2.warpAffine(self._sprite, matrix, there, borderMode=cv2.BORDER_REPLICATE)
        alpha = np.asarray(cv2.warpAffine(self._alpha, matrix, there), dtype=np.float32)
        window = (slice(top, bottom), slice(left, right))
        return window, colour, alpha, self._shadow(alpha)  # type: ignore[return-value]

    def _shadow(self, alpha: F32) -> F32:
        """A soft shadow thrown down and to the right, [h, w] 0..1."""
        shift = np.array([[1, 0, self._shadow_reach / 3], [0, 1, self._shadow_reach / 2]])
        thrown = cv2.warpAffine(alpha, shift, (alpha.shape[1], alpha.shape[0]))
        blur = max(3, int(self._shadow_reach / 2) | 1)  # an odd number of pixels
        return cv2.blur(thrown, (blur, blur)) * (1.0 - alpha)


def _shrunk(layer: F32, side: int) -> F32:
    """A layer of a sprite at the size it is shown, so that warping it makes no moire; never enlarged."""
    side = max(8, side)
    return layer if side >= len(layer) else cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _placement(
    side: int, centre: tuple[float, float], angle: float, scale: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Affine [2, 3] from a sprite of `side` pixels to the frame: stretched along its axes, turned, moved."""
    cos, sin = math.cos(angle), math.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag(scale)
    offset = np.array(centre) - linear @ np.array([side / 2, side / 2])
    return np.column_stack((linear, offset))


def _sprite(rng: np.random.Generator, index: int) -> tuple[F32, F32]:
    """Colour [side, side, 3] 0..255 and coverage [side, side] 0..1 of a thing, with round shading towards its rim."""
    texture = _TEXTURES[index % len(_TEXTURES)]
    colours = _PALETTES[index % len(_PALETTES)] * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    outline = _outline(rng, index)
    inside = np.zeros((_SPRITE, _SPRITE), dtype=np.uint8)
    cv2.fillPoly(inside, [outline], 255)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    dome = np.sqrt(np.clip(depth / (0.16 * _SPRITE), 0, 1))
    colour = texture(rng, _SPRITE, colours) * (0.55 + 0.5 * dome)[..., None] * 255
    alpha = cv2.GaussianBlur(inside.astype(np.float32) / 255, (0, 0), 0.8)
    return np.clip(colour, 0, 255).astype(np.float32), alpha  # type: ignore[return-value]


def _outline(rng: np.random.Generator, index: int) -> npt.NDArray[np.int32]:
    """Closed outline [P, 2] in sprite pixels: a lobed or lumpy round shape that is not symmetric."""
    angle = np.linspace(0, 2 * math.pi, 240, endpoint=False)
    lobes, depth = ((2, 0.20), (5, 0.17), (3, 0.14), (4, 0.16))[index % 4]
    radius = 1.0 + depth * np.cos(lobes * angle + rng.uniform(0, 2 * math.pi))
    for wave in (1, 3, 4, 7):
        radius += rng.uniform(0.02, 0.35 / (wave + 2)) * np.cos(wave * angle + rng.uniform(0, 2 * math.pi))
    radius *= 0.46 * _SPRITE / radius.max()
    points = _SPRITE / 2 + radius[:, None] * np.column_stack((np.cos(angle), 0.85 * np.sin(angle)))
    return np.asarray(points.round(), dtype=np.int32)


def _fractal(rng: np.random.Generator, side: int, coarsest: int) -> F32:
    """Noise [side, side] 0..1 with detail at every scale; `coarsest` is the number of its largest patches across."""
    total = np.zeros((side, side), dtype=np.float32)
    cells, strength = coarsest, 1.0
    while cells < side:
        patch = rng.random((cells, cells), dtype=np.float32)
        total += strength * cv2.resize(patch, (side, side), interpolation=cv2.INTER_CUBIC)
        cells, strength = cells * 2, strength * 0.55
    low, high = np.quantile(total[::4, ::4], (0.01, 0.99))
    return np.asarray(np.clip((total - low) / (high - low), 0, 1), dtype=np.float32)


def _ramp(tone: F32, colours: F32) -> F32:
    """Colour [..., 3] at `tone` 0..1 along a row of colours [C, 3]."""
    stops = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(tone, stops, channel) for channel in colours.T], axis=-1).astype(np.float32)


def _grid(side: int) -> tuple[F32, F32]:
    across, down = np.meshgrid(np.linspace(0, 1, side, dtype=np.float32), np.linspace(0, 1, side, dtype=np.float32))
    return across, down


def _fur(rng: np.random.Generator, side: int, colours: F32) -> F32:
    return _ramp(_fractal(rng, side, coarsest=7), colours)


def _stripes(rng: np.random.Generator, side: int, colours: F32) -> F32:
    across, down = _grid(side)
    bend = 0.22 * _fractal(rng, side, coarsest=3)
    wave = 0.5 + 0.5 * np.sin(2 * math.pi * (5.5 * (across + bend) + 1.5 * down))
    return _ramp(np.clip(1.6 * wave - 0.3, 0, 1), colours) * _grain(rng, side)


def _checks(rng: np.random.Generator, side: int, colours: F32) -> F32:
    across, down = _grid(side)
    bend = 0.12 * _fractal(rng, side, coarsest=3)
    board = np.sin(14 * (across + bend)) * np.sin(14 * (down - bend))
    return _ramp(np.clip(0.5 + 2.5 * board, 0, 1), colours) * _grain(rng, side)


def _spots(rng: np.random.Generator, side: int, colours: F32) -> F32:
    coat = np.tile(colours[0], (side, side, 1))
    for _ in range(45):
        centre = (int(rng.integers(0, side)), int(rng.integers(0, side)))
        colour = colours[1 + rng.integers(2)].tolist()
        cv2.circle(coat, centre, int(rng.integers(side // 45, side // 16)), colour, -1, cv2.LINE_AA)
    return coat * _grain(rng, side)


def _grain(rng: np.random.Generator, side: int) -> F32:
    return (0.75 + 0.4 * _fractal(rng, side, coarsest=12))[..., None]


_TEXTURES: tuple[Texture, ...] = (_stripes, _spots, _fur, _checks)

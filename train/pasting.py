"""Pasted objects: things whose masks are known exactly, because we put them there.

A region of one clip (a pseudo object, or a random blob) is moved over the frames of another along a smooth path:
turning, scaling, crossing, hiding one another. Clusters teach what objects look like but are vague at the edge; pasted
objects teach the decoder to follow an edge. No label of any kind is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from train.augment import Image, jitter

Alpha = npt.NDArray[np.float32]  # [h, w], 0..1


@dataclass(frozen=True)
class Cutout:
    """A picture and which part of it is the object."""

    image: Image
    alpha: Alpha


def blob(rng: np.random.Generator, side: int) -> Alpha:
    """A random smooth region of about half the square: an ellipse with a wavy outline."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.ones_like(angle)
    for wave in range(2, 7):
        radius += rng.normal(0, 0.35 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.3, 1.8)
    stretch = np.exp(rng.uniform(-0.5, 0.5))
    points = np.stack((radius * np.cos(angle) * stretch, radius * np.sin(angle) / stretch), axis=1)
    points *= 0.48 * side / np.abs(points).max()
    alpha = np.zeros((side, side), np.uint8)
    cv2.fillPoly(alpha, [np.round((points + side / 2) * 16).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
    return np.float32(1 / 255) * alpha.astype(np.float32)


def cut_blob(rng: np.random.Generator, frame: Image) -> Cutout:
    """A random blob of a random part of the frame."""
    height, width = frame.shape[:2]
    side = int(min(height, width) * rng.uniform(0.3, 0.8))
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    return Cutout(np.ascontiguousarray(frame[y : y + side, x : x + side]), blob(rng, side))


def cut_object(frame: Image, mask: npt.NDArray[np.bool_]) -> Cutout | None:
    """The object under `mask`, cropped to its box; None when it is too small to be seen."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if width < 12 or height < 12:
        return None
    part = slice(y, y + height), slice(x, x + width)
    alpha = np.asarray(cv2.GaussianBlur(mask[part].astype(np.float32), (0, 0), 0.8), np.float32)
    return Cutout(np.ascontiguousarray(frame[part]), alpha)


@dataclass
class Flight:
    """A smooth path: place and speed in pixels, turn in radians, size in pixels a cutout pixel."""

    place: npt.NDArray[np.float64]
    speed: npt.NDArray[np.float64]
    turn: float
    turn_speed: float
    scale: float
    growth: float

    @classmethod
    def random(cls, rng: np.random.Generator, cutout: Cutout, side: int) -> "Flight":
        """Starts inside a square of `side` pixels, the object from a few tokens to six tenths of it wide."""
        scale = side * float(np.exp(rng.uniform(np.log(0.08), np.log(0.6)))) / max(cutout.alpha.shape)
        speed = rng.normal(0, 0.05 * side, 2)
        start = rng.uniform(0.2, 0.8, 2) * side
        return cls(start, speed, rng.uniform(-0.6, 0.6), rng.normal(0, 0.12), scale, float(np.exp(rng.normal(0, 0.06))))

    def beside(self, rng: np.random.Generator, width: float, place: float) -> "Flight":
        """The path of a thing `place` times `width` pixels away: nearly the same speed, turn and size."""
        away = place * width * rng.uniform(0.6, 1.4) * np.array([np.cos(self.turn), np.sin(self.turn)])
        around = rng.normal(0, 0.15 * width, 2)
        return Flight(
            self.place + away + around,
            self.speed * rng.uniform(0.6, 1.4) + rng.normal(0, 0.05 * width, 2),
            self.turn + rng.normal(0, 0.15),
            self.turn_speed + rng.normal(0, 0.03),
            self.scale * float(np.exp(rng.normal(0, 0.12))),
            self.growth,
        )

    def advance(self, rng: np.random.Generator) -> None:
        """One frame later."""
        self.place = self.place + self.speed
        self.speed = self.speed + rng.normal(0, 0.15, 2) * np.abs(self.speed).mean()
        self.turn += self.turn_speed
        self.scale *= self.growth

    def matrix(self, cutout: Cutout) -> npt.NDArray[np.float64]:
        """[2, 3] from cutout pixels to frame pixels."""
        height, width = cutout.alpha.shape
        cosine, sine = self.scale * np.cos(self.turn), self.scale * np.sin(self.turn)
        linear = np.array([[cosine, -sine], [sine, cosine]])
        return np.column_stack((linear, self.place - linear @ np.array([width / 2, height / 2])))


def paste(
    rng: np.random.Generator, frames: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], cutout: Cutout, label: int
) -> None:
    """Draw the cutout, in flight, over all frames [F, S, S, 3] and its label over `labels` [F, S, S]; both in place."""
    cutout = Cutout(jitter(rng, cutout.image), cutout.alpha)
    _draw(rng, frames, labels, cutout, label, Flight.random(rng, cutout, frames.shape[1]))


def paste_crowd(
    rng: np.random.Generator,
    frames: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    cutout: Cutout,
    crowd: Sequence[int],
) -> None:
    """Draw the cutout once for each label of `crowd`, side by side and moving together: only place tells them apart."""
    cutout = Cutout(jitter(rng, cutout.image), cutout.alpha)
    first = Flight.random(rng, cutout, frames.shape[1])
    first.scale = min(first.scale, 1.2 * frames.shape[1] / (len(crowd) * min(cutout.alpha.shape)))  # most are in view
    places = np.arange(len(crowd)) - len(crowd) // 2
    width = first.scale * min(cutout.alpha.shape)
    for place, label in zip(rng.permutation(places).tolist(), crowd, strict=True):
        _draw(rng, frames, labels, cutout, label, first.beside(rng, width, place))


def paste_carried(
    rng: np.random.Generator,
    frames: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    carrier: tuple[Cutout, int],
    carried: Sequence[tuple[Cutout, int]],
) -> None:
    """Draw a thing and, on it or at its side, smaller ones that move with it, as a bag with its bearer."""
    things = [(Cutout(jitter(rng, cutout.image), cutout.alpha), label) for cutout, label in (carrier, *carried)]
    first = Flight.random(rng, things[0][0], frames.shape[1])
    width = first.scale * max(things[0][0].alpha.shape)
    _draw(rng, frames, labels, *things[0], flight=replace(first))  # which flies off: a copy
    for cutout, label in things[1:]:
        flight = first.beside(rng, width, rng.uniform(-0.6, 0.6))
        flight.speed, flight.growth = first.speed + rng.normal(0, 0.02 * width, 2), first.growth
        flight.scale = width * float(np.exp(rng.uniform(np.log(0.15), np.log(0.7)))) / max(cutout.alpha.shape)
        _draw(rng, frames, labels, cutout, label, flight)


def _draw(
    rng: np.random.Generator,
    frames: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    cutout: Cutout,
    label: int,
    flight: Flight,
) -> None:
    side = frames.shape[1]
    blur = rng.uniform(0.3, 1.0)
    for frame, label_map in zip(frames, labels, strict=True):
        matrix = flight.matrix(cutout)
        image = cv2.warpAffine(cutout.image, matrix, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
        alpha = cv2.warpAffine(cutout.alpha, matrix, (side, side), flags=cv2.INTER_LINEAR)
        soft = cv2.GaussianBlur(alpha, (0, 0), blur)[..., None]
        frame[:] = np.round(frame * (1 - soft) + image * soft).astype(np.uint8)
        label_map[alpha > 0.5] = label
        flight.advance(rng)

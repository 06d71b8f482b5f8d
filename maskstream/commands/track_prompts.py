"""Prompts of `maskstream track`: what the words of --prompt and the number of --auto mean, frame by frame.

Words are made into prompts when their frame is there. The first object has id 1; a mask file brings its own ids.
"""

import re
from collections.abc import Sequence
from functools import partial

from maskstream.commands.follow import PromptMaker
from maskstream.prompt_kinds import AnyPrompt, AutoPrompt
from maskstream.prompts import parse_prompt
from maskstream.tracker import Frame

_WITH_FRAME = re.compile(r"^(\d+):(.+)$", re.DOTALL)


def prompt_plan(words: Sequence[str], auto: int = 0) -> dict[int, PromptMaker]:
    """Prompts by frame from the words of --prompt: FRAME:WORDS, or WORDS of frame 0. Objects are numbered in order.

    `auto` asks for up to so many things more on frame 0. What is made raises InvalidPrompt or MaskFileError.
    """
    by_frame: dict[int, list[tuple[int, str]]] = {0: []} if auto else {}
    for number, text in enumerate(words, start=1):
        match = _WITH_FRAME.match(text)
        index, rest = (int(match[1]), match[2]) if match else (0, text)
        by_frame.setdefault(index, []).append((number, rest))
    return {index: partial(_prompts, numbered, 0 if index else auto) for index, numbered in by_frame.items()}


def _prompts(numbered: Sequence[tuple[int, str]], auto: int, frame: Frame) -> list[AnyPrompt]:
    """A mask file brings its own ids, and later words win where they meet."""
    prompts: dict[int, AnyPrompt] = {}
    for number, text in numbered:
        prompts.update({prompt.object_id: prompt for prompt in parse_prompt(text, frame, number)})
    return [*prompts.values(), *([AutoPrompt(auto)] if auto else [])]

"""Follows what is in a box on the first picture of a video, with asyncio, and writes a palette PNG for each frame.

    python follow.py localhost:50051 my.mp4 120,80,200,160 masks/

The area of each object is printed for each frame. Where the server goes away, the stream goes on at the next one that
is named: "gpu-1:50051,gpu-2:50051".
"""

import asyncio
import sys
from pathlib import Path

from maskstream.client import BoxPrompt
from maskstream.client_async import AsyncMaskStreamClient
from maskstream.video import open_source


async def follow(target: str, video: str, box: tuple[int, int, int, int], masks: Path) -> None:
    """Print the areas, write the masks into a folder that exists. Raises StreamError when no server can be had."""
    async with AsyncMaskStreamClient(target) as client, await client.open() as stream:
        with open_source(video) as frames:
            async for answer in stream.propagate(frames, {0: [BoxPrompt(1, box)]}):
                if not answer.has_masks:
                    print(answer.index, answer.dropped or answer.error)
                    continue
                answer.to_pil().save(masks / f"{answer.index:05d}.png")
                print(answer.index, *(f"{seen.object_id}:{seen.area}" for seen in answer.objects if seen.area))


if __name__ == "__main__":
    server, source, corners, folder = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    left, top, width, height = (int(side) for side in corners.split(","))
    asyncio.run(follow(server, source, (left, top, width, height), Path(folder)))

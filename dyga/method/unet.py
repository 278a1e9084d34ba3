"""The conditional U-Net: cross attention to the latent units (paper, section 3.1). One class for every profile."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn


def group_norm(channels: int) -> nn.GroupNorm:
    """32 groups, or fewer where channels are few (at least four channels a group)."""
    most = min(32, max(1, channels // 4))
    return nn.GroupNorm(next(groups for groups in range(most, 0, -1) if channels % groups == 0), channels)


class ResBlock(nn.Module):
    """Two 3x3 convolutions; the time embedding scales and shifts the second's normalised input."""

    def __init__(self, channels: int, out: int, embedding: int, dropout: float):
        super().__init__()
        self.norm1, self.conv1 = group_norm(channels), nn.Conv2d(channels, out, 3, padding=1)
        self.scale_shift = nn.Linear(embedding, 2 * out)
        self.norm2, self.conv2 = group_norm(out), nn.Conv2d(out, out, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """(batch, channels, h, w), (batch, embedding) -> (batch, out, h, w)."""
        scale, shift = self.scale_shift(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
        out = self.conv1(F.silu(self.norm1(hidden)))
        out = self.norm2(out) * (1 + scale) + shift
        return self.shortcut(hidden) + self.conv2(self.dropout(F.silu(out)))


class Attention(nn.Module):
    """Attention of positions to tokens. The softmax runs over the tokens of a (tokens x positions) matrix, which avoids
    transposes."""

    def __init__(self, channels: int, context_dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Conv1d(channels, channels, 1, bias=False)
        self.key_value = nn.Linear(context_dim, 2 * channels, bias=False)
        self.out = nn.Conv1d(channels, channels, 1)
        self.map: Tensor | None = None

    def forward(self, hidden: Tensor, context: Tensor, keep_map: bool = False) -> Tensor:
        """hidden (batch, channels, positions), context (batch, tokens, dim) -> (batch, channels, positions)."""
        batch, channels, positions = hidden.shape
        width = channels // self.heads
        query = self.query(hidden).view(batch, self.heads, width, positions)
        key, value = self.key_value(context).view(batch, -1, 2, self.heads, width).permute(2, 0, 3, 1, 4)
        weights = (key @ query * width**-0.5).softmax(dim=2)
        self.map = weights.detach().mean(dim=1) if keep_map else None
        mixed = value.transpose(2, 3) @ weights
        return self.out(mixed.reshape(batch, channels, positions))


class ContextBlock(nn.Module):
    """Cross attention to the latent units; with `transformer`, self attention before and feed-forward after it."""

    def __init__(self, channels: int, context_dim: int, heads: int, transformer: bool):
        super().__init__()
        self.norm = group_norm(channels)
        self.cross = Attention(channels, context_dim, heads)
        self.keep_map = False
        self.transformer = transformer
        if transformer:
            self.self_norm, self.self_attention = group_norm(channels), Attention(channels, channels, heads)
            self.feed_norm = group_norm(channels)
            self.feed_in, self.feed_out = nn.Conv1d(channels, 8 * channels, 1), nn.Conv1d(4 * channels, channels, 1)
        else:
            # Halved instead of zero: the units have an effect as soon as the output layer, which starts at zero, has changed.
            with torch.no_grad():
                self.cross.out.weight.mul_(0.5)
                self.cross.out.bias.zero_()

    def forward(self, hidden: Tensor, context: Tensor) -> Tensor:
        """(batch, channels, h, w), (batch, units, dim) -> (batch, channels, h, w)."""
        out = hidden.flatten(2)
        if self.transformer:
            normed = self.self_norm(out)
            out = out + self.self_attention(normed, normed.transpose(1, 2))
        out = out + self.cross(self.norm(out), context, self.keep_map)
        if self.transformer:
            value, gate = self.feed_in(self.feed_norm(out)).chunk(2, dim=1)
            out = out + self.feed_out(value * F.gelu(gate))
        return out.view_as(hidden)


class Level(nn.Module):
    """The blocks of one resolution: (residual, context) pairs."""

    def __init__(self, widths: Sequence[tuple[int, int]], embedding: int, dropout: float, context: dict | None):
        super().__init__()
        self.residual = nn.ModuleList(ResBlock(i, o, embedding, dropout) for i, o in widths)
        self.context = nn.ModuleList(ContextBlock(o, **context) if context else nn.Identity() for _, o in widths)
        self.attends = context is not None

    def block(self, i: int, hidden: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
        """The i-th pair."""
        hidden = self.residual[i](hidden, embedding)
        return self.context[i](hidden, context) if self.attends else hidden


class DownBlock(Level):
    """Residual blocks of one resolution, then a strided convolution unless it is the coarsest."""

    def __init__(self, channels: int, out: int, count: int, last: bool, **settings):
        super().__init__([(channels if i == 0 else out, out) for i in range(count)], **settings)
        self.down = None if last else nn.Conv2d(out, out, 3, stride=2, padding=1)

    def forward(self, hidden: Tensor, embedding: Tensor, context: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the result and the skip tensors for the up block."""
        skips = []
        for i in range(len(self.residual)):
            hidden = self.block(i, hidden, embedding, context)
            skips.append(hidden)
        if self.down is not None:
            hidden = self.down(hidden)
            skips.append(hidden)
        return hidden, skips


class UpBlock(Level):
    """Residual blocks that each take one skip tensor, then nearest-neighbour up-sampling unless it is the finest."""

    def __init__(self, channels: int, out: int, skips: Sequence[int], last: bool, **settings):
        super().__init__([((channels if i == 0 else out) + s, out) for i, s in enumerate(skips)], **settings)
        self.up = None if last else nn.Conv2d(out, out, 3, padding=1)

    def forward(self, hidden: Tensor, res_hidden_states_tuple: tuple[Tensor, ...], embedding: Tensor, context: Tensor) -> Tensor:
        """Uses the skip tensors in reverse order. The argument has diffusers' name, so that plug-ins work with both."""
        for i, skip in enumerate(reversed(res_hidden_states_tuple)):
            hidden = self.block(i, torch.cat([hidden, skip], dim=1), embedding, context)
        return hidden if self.up is None else self.up(F.interpolate(hidden, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module):
    """Denoiser: (noisy latent, time, latent units) -> prediction of the latent's shape.

    `channels` are the widths per resolution, finest first; positions attend to the units at `attention_levels` and in the
    middle; `transformer` adds self-attention and feed-forward, as the paper's U-Net has. The default is the paper's: 16x16x3
    latents, about 37 M parameters.
    """

    def __init__(
        self,
        latent_channels: int = 3,
        channels: Sequence[int] = (64, 128, 256, 256),
        res_blocks: int = 2,
        attention_levels: Sequence[int] = (0, 1, 2),
        heads: int = 8,
        context_dim: int = 32,
        transformer: bool = True,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.time_channels, embedding = channels[0], 4 * channels[0]
        self.time = nn.Sequential(nn.Linear(channels[0], embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        attention = dict(context_dim=context_dim, heads=heads, transformer=transformer)
        coarsest = len(channels) - 1

        def settings(level: int) -> dict:
            context = attention if level in attention_levels else None
            return dict(embedding=embedding, dropout=dropout, context=context)

        self.conv_in = nn.Conv2d(latent_channels, channels[0], 3, padding=1)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        width, skips = channels[0], [channels[0]]
        for level, out in enumerate(channels):
            last = level == coarsest
            self.down_blocks.append(DownBlock(width, out, res_blocks, last, **settings(level)))
            skips += [out] * (res_blocks + (not last))
            width = out
        self.middle = Level([(width, width)] * 2, embedding, dropout, attention)
        for level in range(coarsest, -1, -1):
            taken = [skips.pop() for _ in range(res_blocks + 1)]
            self.up_blocks.append(UpBlock(width, channels[level], taken, level == 0, **settings(level)))
            width = channels[level]
        self.norm_out, self.conv_out = group_norm(width), nn.Conv2d(width, latent_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, noisy: Tensor, time: Tensor, units: Tensor) -> Tensor:
        """noisy (batch, channels, h, w), time (batch,) int, units (batch, units, dim) -> like noisy."""
        embedding = self.time(get_timestep_embedding(time, self.time_channels))
        hidden = self.conv_in(noisy)
        skips = [hidden]
        for block in self.down_blocks:
            hidden, left = block(hidden, embedding, units)
            skips += left
        for i in range(2):
            hidden = self.middle.block(i, hidden, embedding, units)
        for block in self.up_blocks:
            count = len(block.residual)
            hidden = block(hidden, tuple(skips[-count:]), embedding, units)
            skips = skips[:-count]
        return self.conv_out(F.silu(self.norm_out(hidden)))

    def keep_attention(self, keep: bool) -> list[Attention]:
        """Switches the recording of cross-attention maps on or off. Returns the layers; their `.map` is (batch, units,
        positions)."""
        blocks = [m for m in self.modules() if isinstance(m, ContextBlock)]
        for block in blocks:
            block.keep_map = keep
            block.cross.map = None
        return [block.cross for block in blocks]

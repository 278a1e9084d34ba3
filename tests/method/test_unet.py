import pytest
import torch
from diffusers.models.attention_processor import Attention as DiffusersAttention
from diffusers.models.resnet import ResnetBlock2D

from dyga.method.unet import Attention, ResBlock, UNet


def small(**changes) -> UNet:
    settings = dict(channels=(16, 32), res_blocks=1, attention_levels=(0, 1), heads=4, context_dim=8, transformer=False)
    return UNet(12, **settings | changes)


@pytest.mark.parametrize("transformer", [False, True])
@pytest.mark.parametrize("attention_levels", [(), (1,), (0, 1)])
def test_prediction_has_the_latents_shape_and_every_parameter_a_gradient(transformer, attention_levels):
    torch.manual_seed(0)
    unet = small(transformer=transformer, attention_levels=attention_levels)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    out = unet(torch.randn(2, 12, 8, 8), torch.tensor([3, 500]), torch.randn(2, 5, 8))
    assert out.shape == (2, 12, 8, 8)
    out.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in unet.parameters())


def test_widths_that_no_usual_number_of_groups_divides():
    unet = small(channels=(36, 72))
    assert unet(torch.randn(1, 12, 8, 8), torch.tensor([3]), torch.randn(1, 5, 8)).shape == (1, 12, 8, 8)


def test_starts_at_zero_and_hears_units_and_time_afterwards():
    torch.manual_seed(0)
    unet = small()
    noisy, time, units = torch.randn(1, 12, 8, 8), torch.tensor([3]), torch.randn(1, 5, 8)
    assert torch.equal(unet(noisy, time, units), torch.zeros_like(noisy))
    torch.nn.init.normal_(unet.conv_out.weight)
    for module in unet.modules():
        if isinstance(module, ResBlock):
            torch.nn.init.normal_(module.conv2.weight, std=0.1)
    base = unet(noisy, time, units)
    assert not torch.allclose(base, unet(noisy, time, units + 1))
    assert not torch.allclose(base, unet(noisy, time + 400, units))


def test_unit_order_does_not_matter():
    torch.manual_seed(0)
    unet = small()
    torch.nn.init.normal_(unet.conv_out.weight)
    noisy, time, units = torch.randn(2, 12, 8, 8), torch.tensor([3, 9]), torch.randn(2, 5, 8)
    assert torch.allclose(unet(noisy, time, units), unet(noisy, time, units[:, [4, 2, 0, 1, 3]]), atol=1e-5)


def test_the_papers_size():
    unet = UNet()
    millions = sum(parameter.numel() for parameter in unet.parameters()) / 1e6
    assert 33 < millions < 40  # 37.5 M in the released code
    assert unet(torch.randn(1, 3, 16, 16), torch.tensor([1]), torch.randn(1, 20, 32)).shape == (1, 3, 16, 16)


def test_attention_equals_diffusers():
    torch.manual_seed(0)
    mine = Attention(16, 8, heads=4)
    theirs = DiffusersAttention(query_dim=16, cross_attention_dim=8, heads=4, dim_head=4)
    key, value = mine.key_value.weight.chunk(2)
    theirs.to_q.weight.data = mine.query.weight.data[:, :, 0]
    theirs.to_k.weight.data, theirs.to_v.weight.data = key.data, value.data
    theirs.to_out[0].weight.data, theirs.to_out[0].bias.data = (
        mine.out.weight.data[:, :, 0],
        mine.out.bias.data,
    )
    hidden, context = torch.randn(2, 16, 9), torch.randn(2, 5, 8)
    expected = theirs(hidden.transpose(1, 2), encoder_hidden_states=context).transpose(1, 2)
    assert torch.allclose(mine(hidden, context), expected, atol=1e-6)


def test_residual_block_equals_diffusers():
    torch.manual_seed(0)
    mine = ResBlock(32, 64, embedding=24, dropout=0.0)
    torch.nn.init.normal_(mine.conv2.weight, std=0.1)
    theirs = ResnetBlock2D(
        in_channels=32, out_channels=64, temb_channels=24, groups=8, groups_out=16, eps=1e-5,
        time_embedding_norm="scale_shift",
    )  # fmt: skip
    pairs = dict(norm1="norm1", conv1="conv1", time_emb_proj="scale_shift", norm2="norm2", conv2="conv2")
    for name, own in (pairs | {"conv_shortcut": "shortcut"}).items():
        getattr(theirs, name).load_state_dict(getattr(mine, own).state_dict())
    hidden, embedding = torch.randn(2, 32, 4, 4), torch.randn(2, 24)
    assert torch.allclose(mine(hidden, embedding), theirs(hidden, embedding), atol=1e-5)


def test_attention_maps_sum_to_one_over_units_and_are_kept_only_when_asked():
    unet = small()
    layers = unet.keep_attention(True)
    unet(torch.randn(2, 12, 8, 8), torch.tensor([3, 9]), torch.randn(2, 5, 8))
    shapes = {tuple(layer.map.shape) for layer in layers}
    assert shapes == {(2, 5, 64), (2, 5, 16)}
    assert all(torch.allclose(layer.map.sum(dim=1), torch.ones(1), atol=1e-5) for layer in layers)
    unet.keep_attention(False)
    unet(torch.randn(2, 12, 8, 8), torch.tensor([3, 9]), torch.randn(2, 5, 8))
    assert all(layer.map is None for layer in layers)

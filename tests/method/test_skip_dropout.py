import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel

from dyga import SkipDropout
from dyga.method.unet import UNet


def ours() -> tuple[torch.nn.Module, tuple]:
    unet = UNet(
        3,
        (16, 32),
        res_blocks=1,
        attention_levels=(1,),
        heads=2,
        context_dim=8,
        transformer=False,
        dropout=0.0,
    )
    return unet, (torch.randn(2, 3, 8, 8), torch.tensor([1, 2]), torch.randn(2, 4, 8))


def unconditional() -> tuple[torch.nn.Module, tuple]:
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    return unet, (torch.randn(2, 3, 8, 8), torch.tensor([1, 2]))


def conditional() -> tuple[torch.nn.Module, tuple]:
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=8,
    )
    return unet, (torch.randn(2, 4, 8, 8), torch.tensor([1, 2]), torch.randn(2, 4, 8))


@pytest.fixture(params=[ours, unconditional, conditional])
def unet_and_inputs(request):
    torch.manual_seed(0)
    unet, inputs = request.param()
    for parameter in unet.parameters():  # zero-initialised layers would hide a change
        torch.nn.init.normal_(parameter, std=0.1)
    return unet, inputs


def output(unet, inputs):
    result = unet(*inputs)
    return result if isinstance(result, torch.Tensor) else result.sample


def test_acts_in_training_only_and_leaves_no_trace(unet_and_inputs):
    unet, inputs = unet_and_inputs
    before = output(unet.train(), inputs)
    handle = SkipDropout(0.5).attach(unet)
    assert not torch.allclose(output(unet, inputs), before)
    torch.testing.assert_close(output(unet.eval(), inputs), before)
    handle.remove()
    handle.remove()
    torch.testing.assert_close(output(unet.train(), inputs), before)
    assert not any(module._forward_pre_hooks for module in unet.modules())


def test_drops_whole_channels_and_keeps_the_mean():
    torch.manual_seed(0)
    unet, _ = ours()
    seen = []

    def watch(block, args, kwargs) -> None:
        seen.append(kwargs["res_hidden_states_tuple"] if "res_hidden_states_tuple" in kwargs else args[1])

    unet.up_blocks[-1].register_forward_pre_hook(watch, with_kwargs=True)
    SkipDropout(0.25).attach(unet)
    unet.up_blocks[-1].register_forward_pre_hook(watch, with_kwargs=True)
    unet.train()(torch.randn(400, 3, 8, 8), torch.zeros(400, dtype=torch.long), torch.randn(400, 4, 8))
    for before, skip in zip(*seen, strict=True):
        dropped = (skip == 0).flatten(2).all(dim=2)
        torch.testing.assert_close(skip[~dropped], before[~dropped] / 0.75)
        assert abs(dropped.float().mean() - 0.25) < 0.02 and not torch.equal(dropped[0], dropped[1])


def test_levels_choose_resolutions():
    unet, _ = ours()
    SkipDropout(0.5, levels=(0,)).attach(unet)
    hooked = [bool(block._forward_pre_hooks) for block in unet.up_blocks]
    assert hooked == [False, True]  # the finest resolution is the last on the way up


def test_a_level_that_is_named_twice_drops_once():
    unet, _ = ours()
    SkipDropout(0.5, levels=(0, 0)).attach(unet)
    assert len(unet.up_blocks[-1]._forward_pre_hooks) == 1


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_refuses_a_wrong_probability(p):
    with pytest.raises(ValueError, match="valid is 0 <= p < 1"):
        SkipDropout(p)


def test_refuses_what_is_no_unet_and_levels_that_are_not_there():
    with pytest.raises(ValueError, match="Linear has no up_blocks"):
        SkipDropout().attach(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="this U-Net has levels 0 to 1"):
        SkipDropout(levels=(2,)).attach(ours()[0])


def test_a_second_attach_is_refused_until_the_first_is_removed(unet_and_inputs):
    unet, _ = unet_and_inputs
    handle = SkipDropout(0.2).attach(unet)
    with pytest.raises(ValueError, match="attached to this U-Net already"):
        SkipDropout(0.2).attach(unet)
    handle.remove()
    handle.remove()
    SkipDropout(0.2).attach(unet).remove()


def test_models_whose_blocks_take_no_skips_are_refused():
    decoder = AutoencoderKL(block_out_channels=(32,), norm_num_groups=8).decoder
    with pytest.raises(ValueError, match="Decoder has no up_blocks that take skip tensors"):
        SkipDropout().attach(decoder)


@pytest.mark.parametrize("unet_and_inputs", [ours], indirect=True)
def test_after_torch_compile_a_warning_says_what_to_do(unet_and_inputs):
    unet, inputs = unet_and_inputs
    compiled = torch.compile(unet.train(), backend="eager")
    without = output(compiled, inputs)
    with pytest.warns(UserWarning, match=r"call torch\.compiler\.reset\(\)"):
        handle = SkipDropout(0.5).attach(unet)
    torch.compiler.reset()
    assert not torch.allclose(output(compiled, inputs), without)
    with pytest.warns(UserWarning, match=r"call torch\.compiler\.reset\(\)"):
        handle.remove()
    torch.compiler.reset()
    assert torch.allclose(output(compiled, inputs), without)
    torch._dynamo.utils.counters.clear()  # other tests attach without a warning

"""Quantization-aware training on a tiny convolutional network with a shortcut."""

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train` (PyTorch)")

from torch import nn  # noqa: E402 - after the check that PyTorch is there
from torch.nn import functional  # noqa: E402

from models import qat, qdq  # noqa: E402
from models.runtime import open_session  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.second = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Identity()
        )
        self.last = nn.Linear(8, 1)

    def forward(self, images):
        signal = self.first(images)
        signal = functional.relu(self.second(signal) + signal)
        return torch.sigmoid(self.last(signal.mean((2, 3))))


class Mobile(nn.Module):
    """Widened, filtered channel by channel, narrowed, beside a shortcut: as in mobile networks."""

    def __init__(self):
        super().__init__()
        self.widen = nn.Sequential(nn.Conv2d(4, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.filter = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16)
        )
        self.narrow = nn.Sequential(nn.Conv2d(16, 4, 1, bias=False), nn.BatchNorm2d(4))

    def forward(self, signal):
        inner = functional.relu6(self.filter(self.widen(signal)))
        return self.narrow(inner) + signal


class Branching(Tiny):
    def forward(self, images):
        return images if images.sum() > 0 else -images


@pytest.fixture
def images():
    """Noise; every second one is striped."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((64, 1, 8, 8), generator=generator)
    noise[::2, :, ::2] += 0.3
    return noise


@pytest.fixture
def truth():
    """Which are striped."""
    return (torch.arange(64) % 2 == 0).float()[:, None]


@pytest.fixture
def trained(images, truth):
    torch.manual_seed(0)
    network = Tiny()
    learn(network, images, truth, steps=60, rate=0.02)
    return network.eval()


def learn(network, images, truth, *, steps, rate):
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    network.train()
    for _ in range(steps):
        loss = functional.binary_cross_entropy(network(images), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def prepared(network, images):
    return qat.prepare(network, images.split(16), keep_fp32=["last"])


def exported(network, images):
    quantized = prepared(network, images)
    qat.freeze(quantized)
    return quantized, qat.export(quantized, images, input_name="image", output_name="probability")


def levels_of(weights):
    """What each stored tensor of integers is called, and its values."""
    graph = onnx.load_from_string(weights).graph
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    return {name: values for name, values in stored.items() if values.dtype.kind in "iu"}


def test_a_prepared_network_answers_nearly_as_before_and_leaves_the_original_alone(trained, images):
    before = {name: value.clone() for name, value in trained.state_dict().items()}

    quantized = prepared(trained, images)

    with torch.no_grad():
        assert float((quantized(images) - trained(images)).abs().max()) < 0.1
    assert all(torch.equal(before[name], value) for name, value in trained.state_dict().items())


def test_rounding_is_really_there(trained, images):
    quantized = prepared(trained, images)

    with torch.no_grad():
        assert float((quantized(images) - trained(images)).abs().max()) > 0


def test_batch_norm_is_folded(trained, images):
    quantized = prepared(trained, images)

    assert not any(isinstance(each, nn.BatchNorm2d) for each in quantized.modules())


def test_fine_tuning_lowers_the_loss_with_the_rounding_in_place(trained, images, truth):
    quantized = prepared(trained, images)
    with torch.no_grad():
        before = float(functional.binary_cross_entropy(quantized(images), truth))

    after = learn(quantized, images, truth, steps=40, rate=0.005)

    assert after < before


def test_the_file_answers_as_the_module_does(trained, images):
    quantized, weights = exported(trained, images)

    answer = qat.answer_as_written(weights, images.numpy())

    with torch.no_grad():
        assert np.abs(answer - quantized(images).numpy()).max() < 1e-4


def test_the_runtime_gives_nearly_the_same_for_any_number_of_images(trained, images):
    quantized, weights = exported(trained, images)
    session = open_session(weights, exact_int8=False)

    for count in (1, 3, 64):
        (answer,) = session.run(["probability"], {"image": images[:count].numpy()})
        with torch.no_grad():
            assert np.abs(answer - quantized(images[:count]).numpy()).max() < 0.02


def test_every_quantized_layer_becomes_an_integer_kernel(trained, images):
    _, weights = exported(trained, images)

    assert qdq.integer_layers(weights) == 2


def test_weights_are_stored_in_seven_bits_and_biases_in_thirty_two(trained, images):
    _, weights = exported(trained, images)

    kernels = [each for each in levels_of(weights).values() if each.ndim == 4]
    biases = [each for each in levels_of(weights).values() if each.dtype == np.int32]
    assert [each.dtype for each in kernels] == [np.int8, np.int8]
    assert all(np.abs(each.astype(int)).max() == 63 for each in kernels)
    assert [each.shape for each in biases] == [(8,), (8,)]


def test_frozen_scales_do_not_follow_the_data_any_more(trained, images):
    quantized = prepared(trained, images)
    qat.freeze(quantized)
    quantized.train()
    before = quantized(images)

    quantized(images * 100)

    assert torch.equal(quantized(images), before)


def test_zero_is_exact_so_that_padding_adds_nothing():
    quantizer = qat.ActivationQuantizer().train()
    quantizer(torch.linspace(-1.3, 2.9, 50))

    assert float(quantizer(torch.zeros(1))) == 0


def test_exporting_before_freezing_is_refused_with_the_remedy(trained, images):
    with pytest.raises(ValueError, match="call freeze"):
        qat.export(prepared(trained, images), images)


def test_a_file_that_would_differ_is_refused(trained, images):
    quantized = prepared(trained, images)
    qat.freeze(quantized)

    with pytest.raises(qat.ExportDiffers, match="more than"):
        qat.export(quantized, images, tolerance=-1)


def test_a_forward_that_depends_on_values_is_refused(images):
    with pytest.raises(qat.NotTraceable, match=r"torch\.fx"):
        qat.prepare(Branching(), [images])


def test_a_layer_that_is_not_there_can_not_be_kept(trained, images):
    with pytest.raises(KeyError, match="head"):
        qat.prepare(trained, [images], keep_fp32=["head"])


def test_linear_layers_become_integer_kernels_too():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1)
    )
    rows = torch.randn(32, 6)
    quantized = qat.prepare(layers, [rows], keep_fp32=["4"])
    qat.freeze(quantized)

    weights = qat.export(quantized, rows)

    assert qdq.integer_layers(weights) == 2


@pytest.fixture
def mobile():
    torch.manual_seed(0)
    network = Mobile()
    with torch.no_grad():
        for _ in range(20):  # statistics for BatchNorm
            network(3 * torch.randn(16, 4, 9, 9))
    return network.eval()


def test_a_mobile_block_with_relu6_becomes_integer_kernels_and_nothing_between_them(mobile):
    signal = 3 * torch.randn(32, 4, 9, 9)
    quantized = qat.prepare(mobile, [signal])
    qat.freeze(quantized)

    weights = qat.export(quantized, signal)

    session = open_session(weights, exact_int8=False)
    (answer,) = session.run(None, {"input": signal.numpy()})
    rounded = [each.op_type for each in onnx.load_from_string(weights).graph.node]
    assert qdq.integer_layers(weights) == 3
    assert rounded.count("QuantizeLinear") == 5  # input, three layers, sum
    with torch.no_grad():
        assert np.abs(answer - mobile(signal).numpy()).mean() < 0.05


def test_the_range_after_a_relu6_ends_at_6(mobile):
    quantized = qat.prepare(mobile, [100 * torch.randn(8, 4, 9, 9)])

    tops = [float(each.high) for each in quantized.modules() if hasattr(each, "high")]

    assert tops.count(6.0) == 2


def test_a_dead_channel_with_a_bias_is_exported_faithfully(mobile):
    norm = mobile.filter[1]
    with torch.no_grad():
        norm.weight[3] = 1e-9
        norm.bias[3] = 4.0
    signal = 3 * torch.randn(32, 4, 9, 9)
    quantized = qat.prepare(mobile, [signal])
    qat.freeze(quantized)

    weights = qat.export(quantized, signal)

    with torch.no_grad():
        assert (
            np.abs(qat.answer_as_written(weights, signal.numpy()) - mobile(signal).numpy()).mean()
            < 0.05
        )

import pytest
import torch

from noisereel.diffusion.schedules import Cosine, LinearBeta, Rectified, Schedule
from noisereel.diffusion.targets import PREDICTS, Predicts, clean_weight


@pytest.mark.parametrize("schedule", [Cosine(), LinearBeta(), Rectified()])
@pytest.mark.parametrize("predicts", list(PREDICTS))
def test_clean_weight_is_the_ratio_of_squared_errors(schedule: Schedule, predicts: Predicts) -> None:
    level = schedule(torch.linspace(0.01, 0.99, 99, dtype=torch.float64))
    a, b = PREDICTS[predicts](level)
    x, x0, error = torch.randn(3, 99, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def target(x0: torch.Tensor) -> torch.Tensor:
        return a * x0 + b * (x - level.alpha * x0) / level.sigma

    ratio = (target(x0 + error) - target(x0)) ** 2 / error**2
    torch.testing.assert_close(clean_weight(level, predicts), ratio, rtol=1e-6, atol=0)


def test_clean_weight_is_what_the_papers_say() -> None:
    level = Cosine()(torch.linspace(0.05, 0.95, 19, dtype=torch.float64))
    snr = level.snr
    torch.testing.assert_close(clean_weight(level, "x0"), torch.ones_like(snr))
    torch.testing.assert_close(clean_weight(level, "eps"), snr)
    torch.testing.assert_close(clean_weight(level, "v"), snr + 1)
    line = Rectified()(torch.linspace(0.05, 0.95, 19, dtype=torch.float64))
    torch.testing.assert_close(clean_weight(line, "flow"), (1 + line.snr.sqrt()) ** 2)


@pytest.mark.parametrize("predicts", list(PREDICTS))
def test_clean_weight_is_finite_at_the_ends(predicts: Predicts) -> None:
    assert clean_weight(Rectified()(torch.tensor([0.0, 1.0])), predicts).isfinite().all()

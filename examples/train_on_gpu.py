"""Train the network of train_mnist.py by PyTorch, on a GPU if there is one.

python examples/train_on_gpu.py             pip install 'nanodiff[torch]' before
python examples/train_on_gpu.py --quick     a try-out of seconds; it draws mush
python examples/train_on_gpu.py --resume    goes on, whichever of the two began

The options, the recipe and the checkpoint are those of train_mnist.py. NumPy draws the
batches, the times and the noise in the same order, so with the same seed it is the same
run: the losses agree to rounding, which grows with the steps. Network, gradients,
optimiser and average are PyTorch's, and stay on the GPU. Ctrl-C saves the last finished
step. Without a GPU it is no faster than train_mnist.py.
"""

import time
from dataclasses import replace

import limits
import numpy as np
from limits import command, stopped
from train_mnist import begin, options, resume

from nanodiff import data, files, sampling, viz
from nanodiff.export import to_torch
from nanodiff.optim import Muon, learning_rate
from nanodiff.parallel import ALONE
from nanodiff.prediction import min_snr, split, target
from nanodiff.progress import progress
from nanodiff.schedule import q_sample
from nanodiff.self_conditioning import WithLastGuess
from nanodiff.signals import Signals, Stopped
from nanodiff.train import check_data

try:
    import torch
except ImportError:  # to_torch says how to get it
    torch = None


class Learner:
    """A run's network, optimiser and average as tensors; `fetch` brings them back."""

    def __init__(self, run, device):
        def tensors(arrays):
            return {name: torch.tensor(a, device=device) for name, a in arrays.items()}

        self.run, self.device, own = run, device, run.optimizer
        self.twin = to_torch(run.model).to(device)
        self.w = dict(self.twin.named_parameters())
        self.m, self.v = tensors(own.m), tensors(own.v)
        self.average = tensors(run.ema.average)
        self.hidden = own.hidden.keys() if isinstance(own, Muon) else ()
        adam = [self.w[name] for name in own.params]
        self.adam = torch.optim.Adam(adam, betas=(own.b1, own.b2), eps=own.tiny)
        for name in own.params:
            k = torch.tensor(float(own.k))
            state = {"step": k, "exp_avg": self.m[name], "exp_avg_sq": self.v[name]}
            self.adam.state[self.w[name]] = state
        for w in self.w.values():
            w.grad = torch.zeros_like(w)  # what a step does not use has no gradient

    def network(self, *arrays):
        """The output for arrays of which some may be None."""
        given = (None if a is None else self.tensor(a) for a in arrays)
        return self.twin(*given)

    def tensor(self, array):
        return torch.tensor(array, device=self.device)

    def step(self, inputs, aim, weight, rate):
        """Move the weights down the gradient of mean weight (output - aim)^2.

        It returns the loss without the weight.
        """
        run = self.run
        self.twin.zero_grad(set_to_none=False)
        square = (self.network(*inputs) - self.tensor(aim)) ** 2
        (self.tensor(weight) * square).mean().backward()
        loss = square.detach().mean()
        norm = torch.nn.utils.clip_grad_norm_(self.w.values(), run.recipe.max_norm)
        if not (loss + norm).isfinite():
            raise FloatingPointError(f"loss {loss}, norm {norm}: try a lower --lr")
        self.adam.param_groups[0]["lr"] = rate
        self.adam.step()
        with torch.no_grad():
            for name in self.hidden:
                self.muon(self.w[name], self.m[name], rate)
            decay = min(run.ema.decay, (1 + run.ema.k) / (10 + run.ema.k))
            for name, average in self.average.items():
                average.lerp_(self.w[name], 1 - decay)
        run.optimizer.k, run.ema.k = run.optimizer.k + 1, run.ema.k + 1
        return loss.item()

    def muon(self, w, m, rate):
        """A step of `optim.Muon` for a hidden kernel."""
        share = 1 - self.run.optimizer.momentum
        m.lerp_(w.grad, share)
        ahead = m.lerp(w.grad, share).flatten(1)
        length = 0.2 * max(ahead.shape) ** 0.5
        w -= rate * length * orthogonal(ahead).reshape(w.shape)

    def fetch(self):
        """Bring everything back to the run, which can then be saved."""
        run = self.run
        for arrays, tensors in (
            (run.model.named_params(), self.w), (run.ema.average, self.average),
            (run.optimizer.m, self.m), (run.optimizer.v, self.v),
        ):  # fmt: skip
            for name, array in arrays.items():
                array[...] = tensors[name].detach().cpu().numpy()


def orthogonal(G):
    """`optim.orthogonal`: G with all its singular values made (nearly) 1."""
    if len(G) > G.shape[1]:
        return orthogonal(G.T).T
    G = G / G.abs().max().clamp(min=torch.finfo(G.dtype).tiny)
    values, vectors = torch.linalg.eigh((G @ G.T).double())
    damped = values.clamp(min=0) + 1e-5 * values[-1] + torch.finfo(G.dtype).tiny
    return ((vectors / damped.sqrt()) @ vectors.T).to(G.dtype) @ G


def batch(run, images, context):
    """x0, t, eps and contexts, drawn in the order of `nanodiff.train`."""
    recipe, rng, T = run.recipe, run.rng, run.schedule.T
    i = rng.integers(len(images), size=recipe.batch)
    t = rng.integers(1, T + 1, size=recipe.batch)
    if recipe.focus is not None:
        share, first, last = recipe.focus
        focused = rng.integers(first, last + 1, size=recipe.batch)
        t = np.where(rng.random(recipe.batch) < share, focused, t)
    eps = rng.standard_normal(images[i].shape).astype(images.dtype)
    keep = rng.random(recipe.batch) >= recipe.drop
    return images[i], t, eps, context[i] * keep[:, None].astype(context.dtype)


def learn(run, learner, images, context):
    """Train to the end of the recipe, yielding (step, loss): DDPM's Algorithm 1."""
    recipe, schedule = run.recipe, run.schedule
    for step in range(len(run.losses), recipe.steps):
        x0, t, eps, given = batch(run, images, context)
        xt, guess = q_sample(schedule, x0, t, eps), None
        aim = target(schedule, x0, t, eps, recipe.predicts)
        if run.model.self_condition and run.rng.random() < 0.5:
            with torch.no_grad():
                output = learner.network(xt, t, given).cpu().numpy()
            guess, _ = split(schedule, xt, t, output, recipe.predicts)
        rate = learning_rate(step, recipe.steps, recipe.lr, recipe.warmup)
        weight = np.float32(1)
        if recipe.min_snr is not None:
            weight = min_snr(schedule, t, x0, recipe.min_snr, recipe.predicts)
        loss = learner.step((xt, t, given, guess), aim, weight, rate)
        run.losses.append(loss)
        yield step, loss


def on_device(found, device):
    """A `Pretrained` whose network is asked on a device: samplers need not know."""
    twin = to_torch(found).to(device)

    @torch.no_grad()
    def network(xt, t, context=None, x0_hat=None):
        arrays = xt, t, context, x0_hat
        inputs = (None if a is None else torch.tensor(a, device=device) for a in arrays)
        return twin(*inputs).cpu().numpy()

    again = found.network.self_condition
    model = WithLastGuess(network, found.schedule) if again else network
    return replace(found, model=model)


def draw(run, out, device):
    """Write the loss curve and a column of each digit by DDIM, with EMA weights."""
    found, rng = on_device(run.trained(), device), np.random.default_rng(0)
    context = data.one_hot(np.tile(np.arange(10), 4))
    steps = min(50, found.schedule.T)
    *_, (_, x0) = sampling.draw(found, context, steps=steps, rng=rng)
    viz.save_loss(out / "loss.png", run.losses)
    viz.save_sheet(out / "ddim.png", x0, columns=10)


def train(run, learner, images, context, args, device):
    """Train to the end, or until a signal: then save the last finished step."""
    path, last = args.out / "checkpoint.npz", run.recipe.steps
    with files.alone(path), Signals() as signals:
        loop, done = learn(run, learner, images, context), len(run.losses)
        for step, _ in progress(loop, device, last, initial=done, unit="step"):
            if signals.caught:
                break
            if (step + 1) % args.every == 0 and step + 1 < last:
                learner.fetch()
                run.save(path)
                draw(run, args.out, device)
        learner.fetch()
        run.save(path)
        signals.raise_from_now(f"saved {path} after step {len(run.losses)}")
        draw(run, args.out, device)


def main():
    args, start = options(), time.time()
    path = args.out / "checkpoint.npz"
    if path.exists() and not args.resume:
        raise ValueError(f"{path} exists: go on with --resume, or use another --out")
    run = resume(args, path) if args.resume else begin(args)
    to_torch(run.model)  # or ImportError, before any work
    device = "cuda" if torch.cuda.is_available() else "cpu"
    learner, (images, labels) = Learner(run, device), data.mnist(folder=args.data)
    images, context = check_data(images, data.one_hot(labels))
    viz.folder(args.out)
    try:
        train(run, learner, images, context, args, device)
    except Stopped as stop:
        words = ["--resume", "--out", args.out]
        words += ["--data", args.data] if args.data else []
        stopped(stop, ALONE, "train_on_gpu", *words)
    print(f"{path} after {time.time() - start:.0f} s on {device}; next:")
    print(command("sample", "--model", path, "--classes", 2026))


if __name__ == "__main__":
    limits.run(main)

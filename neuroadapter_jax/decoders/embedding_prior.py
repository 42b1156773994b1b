"""MindEye's diffusion prior: from the brain MLP's tokens to those of a real image's embedding."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from neuroadapter_jax.ranges import Count, ShareBelowOne, check, check_fields

_BUCKETS, _FARTHEST = 32, 128
_ROTATED = 32
_COSINE_SCALE = 16.0


@dataclass(frozen=True)
class PriorConfig:
    """Sizes of `EmbeddingPrior`, and the length of its diffusion.

    Attributes:
        num_tokens: k, tokens of the embedding.
        width: c, of a token, an even number.
        depth: transformer blocks.
        num_heads: of queries; keys and values have one head that all share.
        head_width: d, an even number.
        num_timesteps: T of the diffusion.

    Examples:
        >>> from neuroadapter_jax.decoders.embedding_prior import PriorConfig
        >>> PriorConfig().num_timesteps  # MindEye's
        100
    """

    num_tokens: Count = 257
    width: Count = 768
    depth: Count = 6
    num_heads: Count = 12
    head_width: Count = 64
    num_timesteps: Count = 100

    def __post_init__(self):
        check_fields(self)

    @property
    def embedding_scale(self) -> float:
        """sqrt(c): embeddings are diffused at this multiple, and samples divided by it."""
        return math.sqrt(self.width)


class _GainNorm(nnx.Module):
    """(x - mean) / sqrt(variance + 1e-5) times a gain; "stable" divides by the largest first."""

    def __init__(self, width: int, stable: bool = False):
        self.stable = stable
        self.g = nnx.Param(jnp.ones((width,)))

    def __call__(self, x: Float[Array, "b k c"]) -> Float[Array, "b k c"]:
        if self.stable:
            x = x / jax.lax.stop_gradient(x.max(axis=-1, keepdims=True))
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = jnp.mean(centred**2, axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + 1e-5) * self.g[...]


def _linear(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, use_bias=False, rngs=rngs)


def _rotate(x: Float[Array, "b h k d"]) -> Float[Array, "b h k d"]:
    """Rotary positions on the first min(32, d) dimensions, in neighbouring pairs."""
    rotated = min(_ROTATED, x.shape[-1])
    frequencies = 10000.0 ** (-np.arange(0, rotated, 2)[: rotated // 2] / rotated)
    angles = np.arange(x.shape[-2])[:, None] * np.repeat(frequencies, 2)[None, :]
    cosine, sine = (jnp.asarray(f(angles), x.dtype) for f in (np.cos, np.sin))
    head, rest = x[..., :rotated], x[..., rotated:]
    pairs = head.reshape(*head.shape[:-1], -1, 2)
    turned = jnp.stack([-pairs[..., 1], pairs[..., 0]], axis=-1).reshape(head.shape)
    return jnp.concatenate([head * cosine + turned * sine, rest], axis=-1)


def _unit(x: Array) -> Array:
    """x at unit length along its last axis, as PyTorch's `normalize`."""
    squares = jnp.sum(x**2, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))


def relative_buckets(num_queries: int, num_keys: int) -> Int[np.ndarray, "q k"]:
    """Which learned bias a query and a key get, by how far the key lies behind (T5's buckets).

    Distances below 16 have a bucket each, longer ones logarithmic ones up to 128; what lies ahead
    counts as distance 0, since the class was made for causal attention, and the null key, put in
    front, moves all keys by one.

    Args:
        num_queries: tokens.
        num_keys: tokens and the null key.

    Examples:
        >>> from neuroadapter_jax.decoders.embedding_prior import relative_buckets
        >>> relative_buckets(3, 4).tolist()
        [[0, 0, 0, 0], [1, 0, 0, 0], [2, 1, 0, 0]]
    """
    behind = np.maximum(np.arange(num_queries)[:, None] - np.arange(num_keys)[None, :], 0)
    exact = _BUCKETS // 2
    far = np.log(np.maximum(behind, 1) / exact) / math.log(_FARTHEST / exact) * (_BUCKETS - exact)
    return np.where(behind < exact, behind, np.minimum(exact + far.astype(int), _BUCKETS - 1))


class _Attention(nnx.Module):
    """Many query heads, one head of keys and values, cosine similarity, and a learned null key."""

    def __init__(self, config: PriorConfig, *, rngs: nnx.Rngs):
        c, d = config.width, config.head_width
        self.heads = config.num_heads
        self.norm = _GainNorm(c)
        self.null_kv = nnx.Param(jax.random.normal(rngs.params(), (2, d)))
        self.to_q = _linear(c, self.heads * d, rngs)
        self.to_kv = _linear(c, 2 * d, rngs)
        self.to_out = nnx.Dict({"0": _linear(self.heads * d, c, rngs), "1": _GainNorm(c)})

    def __call__(
        self, x: Float[Array, "b n c"], bias: Float[Array, "h n m"]
    ) -> Float[Array, "b n c"]:
        b, n, _ = x.shape
        x = self.norm(x)
        q = self.to_q(x).reshape(b, n, self.heads, -1).transpose(0, 2, 1, 3)
        k, v = jnp.split(self.to_kv(x), 2, axis=-1)
        q, k = _rotate(q), _rotate(k[:, None])[:, 0]
        null = jnp.broadcast_to(self.null_kv[...][:, None, None], (2, b, 1, k.shape[-1]))
        k, v = (jnp.concatenate([own, x], axis=1) for own, x in zip(null, (k, v), strict=True))
        scores = jnp.einsum("bhqd,bkd->bhqk", _unit(q), _unit(k)) * _COSINE_SCALE
        weights = jax.nn.softmax(scores + bias, axis=-1)
        out = jnp.einsum("bhqk,bkd->bqhd", weights, v).reshape(b, n, -1)
        return self.to_out["1"](self.to_out["0"](out))


class _FeedForward(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        # The numbers are those of dalle2-pytorch's sequence; 2 to 4 hold no parameters.
        self.layers = nnx.Dict(
            {
                "0": _GainNorm(width),
                "1": _linear(width, 8 * width, rngs),
                "5": _linear(4 * width, width, rngs),
            }
        )

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        x, gate = jnp.split(self.layers["1"](self.layers["0"](x)), 2, axis=-1)
        return self.layers["5"](x * jax.nn.silu(gate))


class _Block(nnx.Module):
    def __init__(self, config: PriorConfig, *, rngs: nnx.Rngs):
        self.attention = _Attention(config, rngs=rngs)
        self.feed_forward = _FeedForward(config.width, rngs=rngs)

    def __call__(self, x: Array, bias: Array) -> Array:
        x = x + self.attention(x, bias)
        return x + self.feed_forward(x)


class _TimeEmbedding(nnx.Module):
    """[sin(t w_i), cos(t w_i)] -> 2c -> 2c -> c with SiLU."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.width = width
        self.layers = nnx.List(
            [
                nnx.Linear(a, b, rngs=rngs)
                for a, b in ((width, 2 * width), (2 * width, 2 * width), (2 * width, width))
            ]
        )

    def __call__(self, timesteps: Int[Array, " b"]) -> Float[Array, "b c"]:
        half = self.width // 2
        frequencies = jnp.exp(-jnp.arange(half) * (math.log(10000.0) / (half - 1)))
        angles = timesteps.astype(jnp.float32)[:, None] * frequencies
        x = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        x = jax.nn.silu(self.layers[1](jax.nn.silu(self.layers[0](x))))
        return self.layers[2](x)


class EmbeddingPrior(nnx.Module):
    """Noisy embedding, timestep and brain tokens -> the clean embedding, [b, k, c].

    The tokens are [B (k) | time (1) | noisy z + learned position (k)]; the last k outputs of a
    transformer without a causal mask are the prediction. MindEye's `VersatileDiffusionPriorNetwork`
    with "pos_emb" (Scotti et al. 2023, arXiv 2305.18274, appendix A), built of dalle2-pytorch's
    parts; `tensor_names` gives that class's names.

    Args:
        config: its sizes.
        rngs: of the random start.
    """

    def __init__(self, config: PriorConfig, *, rngs: nnx.Rngs):
        self.config = config
        shape = (config.num_tokens, config.width)

        def normal(scale: float) -> nnx.Param:
            return nnx.Param(scale * jax.random.normal(rngs.params(), shape))

        self.to_time_embeds = _TimeEmbedding(config.width, rngs=rngs)
        self.learned_query = normal(config.width**-0.5)
        self.null_brain_embeds, self.null_image_embed = normal(1.0), normal(1.0)
        self.blocks = nnx.List([_Block(config, rngs=rngs) for _ in range(config.depth)])
        self.rel_pos_bias = nnx.Embed(_BUCKETS, config.num_heads, rngs=rngs)
        self.norm = _GainNorm(config.width, stable=True)
        self.project_out = _linear(config.width, config.width, rngs)

    def __call__(
        self,
        noisy: Float[Array, "b k c"],
        timesteps: Int[Array, " b"],
        brain: Float[Array, "b k c"],
        *,
        keep_brain: Bool[Array, " b"] | None = None,
        keep_noisy: Bool[Array, " b"] | None = None,
    ) -> Float[Array, "b k c"]:
        """The prediction of the clean embedding, times sqrt(c).

        Args:
            noisy: embeddings times sqrt(c), noised to the timestep.
            timesteps: 0 to T - 1.
            brain: the backbone's output of `BrainMLP`.
            keep_brain: where False, learned tokens stand in for the brain's. None: all are kept.
            keep_noisy: the same for the noisy embedding.
        """
        if keep_brain is not None:
            brain = jnp.where(keep_brain[:, None, None], brain, self.null_brain_embeds[...])
        if keep_noisy is not None:
            noisy = jnp.where(keep_noisy[:, None, None], noisy, self.null_image_embed[...])
        time = self.to_time_embeds(timesteps)[:, None]
        x = jnp.concatenate([brain, time, noisy + self.learned_query[...]], axis=1)
        buckets = relative_buckets(x.shape[1], x.shape[1] + 1)
        bias = self.rel_pos_bias.embedding[...][buckets].transpose(2, 0, 1)
        for block in self.blocks:
            x = block(x, bias)
        return self.project_out(self.norm(x))[:, -self.config.num_tokens :]


class PriorSchedule:
    """The cosine noise schedule of T steps, float64 [T] on the host.

    beta_t = min(1 - f(t + 1) / f(t), 0.999), f(t) = cos^2(pi / 2 (t / T + 0.008) / 1.008)

    Nichol and Dhariwal 2021 (arXiv 2102.09672), equation 17; dalle2-pytorch's `NoiseScheduler`.

    Args:
        num_timesteps: T, at least 1.

    Examples:
        >>> from neuroadapter_jax.decoders.embedding_prior import PriorSchedule
        >>> schedule = PriorSchedule(100)
        >>> round(float(schedule.signal[0]), 4), round(float(schedule.betas[-1]), 3)
        (0.9997, 0.999)
    """

    def __init__(self, num_timesteps: int = 100):
        check("num_timesteps", num_timesteps, Count)
        places = np.arange(num_timesteps + 1) / num_timesteps
        f = np.cos((places + 0.008) / 1.008 * np.pi / 2) ** 2
        self.betas = np.clip(1.0 - f[1:] / f[:-1], 0.0, 0.999)
        kept = np.cumprod(1.0 - self.betas)
        before = np.concatenate([[1.0], kept[:-1]])
        self.signal, self.noise = np.sqrt(kept), np.sqrt(1.0 - kept)
        # q(z_{t-1} | z_t, z_0): its mean's two factors and its variance.
        self.of_clean = self.betas * np.sqrt(before) / (1.0 - kept)
        self.of_noisy = (1.0 - before) * np.sqrt(1.0 - self.betas) / (1.0 - kept)
        self.variance = self.betas * (1.0 - before) / (1.0 - kept)


def prior_loss(
    prior: EmbeddingPrior,
    key: Array,
    brain: Float[Array, "b k c"],
    embedding: Float[Array, "b k c"],
    drop_rate: float = 0.2,
) -> tuple[Float[Array, ""], Float[Array, "b k c"]]:
    """The mean squared error of the clean embedding at a random timestep, and the prediction.

    loss = mean (prior(a_t z s + sigma_t eps, t | B) - z s)^2, s = sqrt(c), t uniform

    MindEye (Scotti et al. 2023, arXiv 2305.18274, section 2.2) adds 30 times this to the
    contrastive loss.

    Args:
        prior: the network.
        key: random key of timesteps, noise and dropped conditions.
        brain: B, the backbone's output of `BrainMLP`.
        embedding: z, of the images, tokens divided by the class token's norm.
        drop_rate: chance, each for itself, that B or the noisy embedding is replaced.

    Returns:
        The loss, and the predicted embedding at the scale of z.
    """
    check("drop_rate", drop_rate, ShareBelowOne)
    config = prior.config
    times, noises, first, second = jax.random.split(key, 4)
    size = len(embedding)
    timesteps = jax.random.randint(times, (size,), 0, config.num_timesteps)
    target = embedding * config.embedding_scale
    noisy = noised(target, timesteps, jax.random.normal(noises, target.shape), config)
    predicted = prior(
        noisy,
        timesteps,
        brain,
        keep_brain=jax.random.bernoulli(first, 1.0 - drop_rate, (size,)),
        keep_noisy=jax.random.bernoulli(second, 1.0 - drop_rate, (size,)),
    )
    return jnp.mean((predicted - target) ** 2), predicted / config.embedding_scale


def noised(
    clean: Float[Array, "b k c"],
    timesteps: Int[Array, " b"],
    noise: Float[Array, "b k c"],
    config: PriorConfig,
) -> Float[Array, "b k c"]:
    """a_t z + sigma_t eps of `PriorSchedule`.

    Args:
        clean: z, times sqrt(c).
        timesteps: t, 0 to T - 1.
        noise: eps, of unit variance.
        config: with T.
    """
    schedule = PriorSchedule(config.num_timesteps)
    signal, level = (
        jnp.asarray(x, jnp.float32)[timesteps][:, None, None]
        for x in (schedule.signal, schedule.noise)
    )
    return signal * clean + level * noise


def sample_embedding(
    prior: EmbeddingPrior, keys: Array, brain: Float[Array, "b k c"]
) -> Float[Array, "b k c"]:
    """Embeddings sampled for brain tokens: all T steps of ancestral DDPM sampling, no guidance.

    z_{t-1} = c_t z_0(z_t, t | B) + d_t z_t + [t > 0] sqrt(v_t) eps, with z_0 the network's
    prediction and c, d, v those of q(z_{t-1} | z_t, z_0); Ho et al. 2020 (arXiv 2006.11239),
    equations 6 and 7. MindEye divides what comes out by the class token's norm before use.

    Args:
        prior: trained.
        keys: [b] random keys; key i alone decides the noise of sample i.
        brain: B, the backbone's output of `BrainMLP`.
    """
    config = prior.config
    shape = (config.num_tokens, config.width)

    def unit(step: Array) -> Array:
        own = jax.vmap(lambda key: jax.random.fold_in(key, step))(keys)
        return jax.vmap(lambda key: jax.random.normal(key, shape))(own)

    def step(z: Array, index: Array) -> tuple[Array, None]:
        z = posterior_step(prior, z, index, brain, unit(index))
        return z, None

    start = unit(jnp.asarray(config.num_timesteps))
    z, _ = jax.lax.scan(step, start, jnp.arange(config.num_timesteps - 1, -1, -1))
    return z / config.embedding_scale


def posterior_step(
    prior: EmbeddingPrior,
    noisy: Float[Array, "b k c"],
    index: Int[Array, ""],
    brain: Float[Array, "b k c"],
    noise: Float[Array, "b k c"],
) -> Float[Array, "b k c"]:
    """One step of `sample_embedding`, from timestep `index` to the one before.

    Args:
        prior: trained.
        noisy: z_t.
        index: t.
        brain: B.
        noise: eps of unit variance; not used at t = 0.
    """
    schedule = PriorSchedule(prior.config.num_timesteps)
    of_clean, of_noisy, deviation = (
        jnp.asarray(x, jnp.float32)[index]
        for x in (schedule.of_clean, schedule.of_noisy, np.sqrt(schedule.variance))
    )
    clean = prior(noisy, jnp.full((len(noisy),), index), brain)
    return of_clean * clean + of_noisy * noisy + jnp.where(index > 0, deviation, 0.0) * noise


def tensor_names(name: str) -> str:
    """The name in MindEye's checkpoints of a tensor of `EmbeddingPrior`, without their "net.".

    Args:
        name: of this package, as `weights.to_tensors` has it.

    Examples:
        >>> from neuroadapter_jax.decoders.embedding_prior import tensor_names
        >>> tensor_names("blocks.0.attention.to_kv.weight")
        'causal_transformer.layers.0.0.to_kv.weight'
        >>> tensor_names("to_time_embeds.layers.2.bias")
        'to_time_embeds.0.1.net.2.bias'
    """
    head, *rest = name.split(".")
    match head:
        case "blocks":
            part = {"attention": ["0"], "feed_forward": ["1"]}[rest[1]]
            tail = [x for x in rest[2:] if x != "layers"]
            return ".".join(["causal_transformer", "layers", rest[0], *part, *tail])
        case "to_time_embeds":
            number = [rest[1]] if rest[1] == "2" else [rest[1], "0"]
            return ".".join(["to_time_embeds", "0", "1", "net", *number, *rest[2:]])
        case "rel_pos_bias":
            return "causal_transformer.rel_pos_bias.relative_attention_bias.weight"
        case "norm" | "project_out":
            return f"causal_transformer.{name}"
    return name

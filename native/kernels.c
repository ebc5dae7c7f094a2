/*
 * Kernels of the array engine: two multilayer perceptrons, four action distributions, the gradient's norm, and Adam.
 * They know no variant of PPO: what a variant wants of each sample arrives as slopes of the loss.
 *
 * float32, one thread. Matrices are row-major with one row per sample; loops run over vectors of WIDTH floats. The file
 * is compiled once for any processor, and again by avx2.c and avx512.c for those that know more; module.c chooses.
 *
 * To be compiled with -ffp-contract=off: where a product and a sum are rounded once is written out (`fused`), and Adam,
 * which has the bits of PyTorch's, does it nowhere.
 *
 * Sections: 1 vectors, 2 elementwise functions, 3 matrix products, 4 networks, 5 action distributions, 6 norm and Adam,
 * 7 what the module calls.
 */
#include "kernels.h"

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef INSTRUCTIONS
#define INSTRUCTIONS "baseline"
#define WIDTH 4
#define KERNELS kernels_baseline
#endif

/* 1. Vectors ----------------------------------------------------------------------------------------------------- */

enum { PANEL = 2 * WIDTH };

typedef float Vector __attribute__((vector_size(WIDTH * 4)));
typedef float UnalignedVector __attribute__((vector_size(WIDTH * 4), aligned(4), may_alias));
typedef int32_t Mask __attribute__((vector_size(WIDTH * 4))); /* -1 or 0 in each lane */

static inline Vector load(const float *p) { return (Vector) * (const UnalignedVector *)p; }
static inline void store(float *p, Vector x) { *(UnalignedVector *)p = (UnalignedVector)x; }
static inline Vector splat(float x) { return x - (Vector){0}; }
static inline Vector select_lanes(Mask mask, Vector yes, Vector no) {
    return (Vector)((mask & (Mask)yes) | (~mask & (Mask)no));
}

/* fused: x y + z, rounded once where the processor can; root: square root, correctly rounded; any_lane: whether one is
 * set; load_some, store_some: the first `count` lanes, touching no other memory; zeros in the rest */
#if defined(INSTRUCTIONS_AVX512)
static inline Vector fused(Vector x, Vector y, Vector z) {
    return (Vector)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z);
}
static inline Vector root(Vector x) { return (Vector)_mm512_sqrt_ps((__m512)x); }
static inline int any_lane(Mask mask) { return _mm512_movepi32_mask((__m512i)mask) != 0; }
static inline __mmask16 first_lanes(Index count) { return (__mmask16)((1u << count) - 1u); }
static inline Vector load_some(const float *p, Index count) {
    return (Vector)_mm512_maskz_loadu_ps(first_lanes(count), p);
}
static inline void store_some(float *p, Vector x, Index count) {
    _mm512_mask_storeu_ps(p, first_lanes(count), (__m512)x);
}
#elif defined(INSTRUCTIONS_AVX2)
static inline Vector fused(Vector x, Vector y, Vector z) {
    return (Vector)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)z);
}
static inline Vector root(Vector x) { return (Vector)_mm256_sqrt_ps((__m256)x); }
static inline int any_lane(Mask mask) { return _mm256_movemask_ps((__m256)mask) != 0; }
static inline __m256i first_lanes(Index count) {
    static const int32_t window[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    return _mm256_loadu_si256((const __m256i *)(window + 8 - count));
}
static inline Vector load_some(const float *p, Index count) {
    return (Vector)_mm256_maskload_ps(p, first_lanes(count));
}
static inline void store_some(float *p, Vector x, Index count) {
    _mm256_maskstore_ps(p, first_lanes(count), (__m256)x);
}
#else
#if defined(__aarch64__) && WIDTH == 4
static inline Vector fused(Vector x, Vector y, Vector z) {
    return (Vector)vfmaq_f32((float32x4_t)z, (float32x4_t)x, (float32x4_t)y);
}
#else
static inline Vector fused(Vector x, Vector y, Vector z) { return x * y + z; }
#endif
static inline Vector root(Vector x) {
    for (int i = 0; i < WIDTH; i++) x[i] = sqrtf(x[i]);
    return x;
}
static inline int any_lane(Mask mask) {
    int32_t any = 0;
    for (int i = 0; i < WIDTH; i++) any |= mask[i];
    return any != 0;
}
static inline Vector load_some(const float *p, Index count) {
    float lanes[WIDTH] = {0};
    for (Index i = 0; i < count; i++) lanes[i] = p[i];
    return load(lanes);
}
static inline void store_some(float *p, Vector x, Index count) {
    for (Index i = 0; i < count; i++) p[i] = x[i];
}
#endif
/* Masked stores are slow on some processors: not where all lanes are meant */
static inline Vector load_part(const float *p, Index count) { return count == WIDTH ? load(p) : load_some(p, count); }
static inline void store_part(float *p, Vector x, Index count) {
    if (count == WIDTH)
        store(p, x);
    else
        store_some(p, x, count);
}

static inline float sum_lanes(Vector x) {
    float lanes[WIDTH];
    store(lanes, x);
    for (int half = WIDTH / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}
/* A column of a matrix: `count` lanes from every `stride`-th float, zeros in the rest */
static inline Vector gather(const float *p, Index stride, Index count) {
    float lanes[WIDTH] = {0};
    for (Index i = 0; i < count; i++) lanes[i] = p[i * stride];
    return load(lanes);
}
static inline void scatter(float *p, Index stride, Index count, Vector x) {
    float lanes[WIDTH];
    store(lanes, x);
    for (Index i = 0; i < count; i++) p[i * stride] = lanes[i];
}

/* 2. Elementwise functions --------------------------------------------------------------------------------------- */
/* Valid for every float; NaN stays NaN. Errors are in units in the last place (ulp), the largest over all floats as
 * tests/test_kernels.py measures it. */

/* tanh x = x P(x^2) / Q(x^2) for |x| < 7.905; and x near zero, where the quotient would lose the smallest numbers. P,
 * Q: Eigen's ptanh_float (Eigen/src/Core/MathFunctionsImpl.h). Beyond 7.905 = e: 1 - 2 exp(-2|x|), with exp(-u) = (1 -
 * u / 4)^4 for u = 2(|x| - e) and zero from u = 4 on. So the largest are 1 exactly: a slope 1 - h^2 that is not quite
 * zero, times a large input, would be a gradient. Error: 5 ulp, 7 where `fused` rounds twice. */
static inline Vector tanh_near(Vector x) {
    Vector s = x * x;
    Vector p = fused(s, splat(-2.76076847742355e-16f), splat(2.00018790482477e-13f));
    p = fused(p, s, splat(-8.60467152213735e-11f));
    p = fused(p, s, splat(5.12229709037114e-08f));
    p = fused(p, s, splat(1.48572235717979e-05f));
    p = fused(p, s, splat(6.37261928875436e-04f));
    p = fused(p, s, splat(4.89352455891786e-03f));
    Vector q = fused(s, splat(1.19825839466702e-06f), splat(1.18534705686654e-04f));
    q = fused(q, s, splat(2.26843463243900e-03f));
    q = fused(q, s, splat(4.89352518554385e-03f));
    return select_lanes(s < 1e-7f, x, x * p / q);
}

static inline Vector tanh_of(Vector x) {
    const Vector end = splat(7.90531110763549805f);
    Vector beyond = (Vector)((Mask)x & INT32_MAX) - end;
    if (!any_lane(beyond > 0.0f)) return tanh_near(x); /* almost always */
    Vector rest = 1.0f - 0.5f * beyond;
    rest = select_lanes(rest < 0.0f, splat(0.0f), rest);
    rest *= rest;
    Vector far = 1.0f - 2.71925e-7f * (rest * rest);
    far = select_lanes(x < 0.0f, -far, far);
    return select_lanes(beyond > 0.0f, far, tanh_near(select_lanes(beyond > 0.0f, end, x)));
}

/* e^x = 2^n e^r with n = round(x / log 2), |r| < 0.35, log 2 in two parts. Polynomial: Cephes expf.c (Moshier).
 * 2^n comes in two factors, since the largest n is no float's exponent and the smallest make subnormal numbers.
 * Error: 1.5 ulp. */
static inline Vector exp_of(Vector x) {
    const float shifter = 12582912.0f; /* 1.5 2^23: adding it rounds to a whole number, kept in the lowest bits */
    Vector c = select_lanes(x > 89.0f, splat(89.0f), x); /* beyond these, infinity and zero */
    c = select_lanes(c < -104.0f, splat(-104.0f), c);
    Vector shifted = fused(c, splat(1.44269504088896341f), splat(shifter));
    Mask n = (Mask)shifted - (Mask)splat(shifter);
    Vector whole = shifted - shifter;
    Vector r = fused(whole, splat(-0.693359375f), c);
    r = fused(whole, splat(2.12194440e-4f), r);
    Vector y = fused(r, splat(1.9875691500e-4f), splat(1.3981999507e-3f));
    y = fused(y, r, splat(8.3334519073e-3f));
    y = fused(y, r, splat(4.1665795894e-2f));
    y = fused(y, r, splat(1.6666665459e-1f));
    y = fused(y, r, splat(5.0000001201e-1f));
    y = fused(y, r * r, r + 1.0f);
    Mask half = n >> 1;
    return y * (Vector)((half + 127) << 23) * (Vector)((n - half + 127) << 23);
}

/* log x = e log 2 + log m with x = 2^e m, 0.7 < m < 1.42. Polynomial: Cephes logf.c (Moshier). Error: 1 ulp. */
static inline Vector log_of(Vector x) {
    Mask subnormal = x < 1.17549435e-38f;
    Vector normal = select_lanes(subnormal, x * 8388608.0f, x); /* 2^23 */
    Mask e = (((Mask)normal >> 23) & 0xff) - 126 - (subnormal & 23);
    Vector m = (Vector)(((Mask)normal & 0x007fffff) | 0x3f000000); /* in [0.5, 1) */
    Mask low = m < 0.707106781186547524f;
    Vector exponent = __builtin_convertvector(e + low, Vector);
    m = select_lanes(low, m + m, m) - 1.0f;
    Vector y = fused(m, splat(7.0376836292e-2f), splat(-1.1514610310e-1f));
    y = fused(y, m, splat(1.1676998740e-1f));
    y = fused(y, m, splat(-1.2420140846e-1f));
    y = fused(y, m, splat(1.4249322787e-1f));
    y = fused(y, m, splat(-1.6668057665e-1f));
    y = fused(y, m, splat(2.0000714765e-1f));
    y = fused(y, m, splat(-2.4999993993e-1f));
    y = fused(y, m, splat(3.3333331174e-1f));
    Vector square = m * m;
    y = fused(y * m, square, exponent * -2.12194440e-4f);
    y = fused(square, splat(-0.5f), y);
    y = fused(exponent, splat(0.693359375f), m + y);
    y = select_lanes(x == 0.0f, splat(-INFINITY), y);
    y = select_lanes(x < 0.0f, splat(NAN), y);
    return select_lanes(x < INFINITY, y, x); /* infinity and NaN stay */
}

/* log(1 + e^x) = max(x, 0) + log(1 + t), t = e^-|x|; with u = 1 + t rounded, log(1 + t) = log(u) t / (u - 1) */
static inline Vector softplus_of(Vector x) {
    Vector t = exp_of((Vector)((Mask)x | INT32_MIN));
    Vector u = 1.0f + t;
    Vector log1p = select_lanes(u == 1.0f, t, log_of(u) * t / (u - 1.0f));
    return select_lanes(x > 0.0f, x, x - x) + log1p; /* x - x: 0, and NaN where x is NaN */
}

static inline Vector sigmoid_of(Vector x) { return 1.0f / (1.0f + exp_of(-x)); }

/* 3. Matrix products --------------------------------------------------------------------------------------------- */
/* C = start + A B, tile by tile; a tile's sums stay in registers. Each element is summed over k in order.
 *
 * A: element (i, k) stands at i * row + k * step, so that a transposed matrix needs no copy.
 * B: in panels of PANEL columns; within a panel, the PANEL elements of a row are contiguous. */

enum { TILE_ROWS = 6 }; /* 6 x 2 sums, 2 vectors of B and 1 element of A use 15 of 16 registers */

typedef struct {
    const float *data;
    Index row, step;
} Left;

typedef struct {
    const float *data;
    Index panel, step; /* floats from panel to panel, and from row to row within one */
} Right;

typedef enum { FROM_ZERO, FROM_BIAS, FROM_OUTPUT } Start; /* FROM_BIAS: a panel's first row is where the sums start */

static inline __attribute__((always_inline)) void tile(const int rows, const int vectors, Index depth, Left a,
                                                       const float *b, Index b_step, Start start, float *out,
                                                       Index out_row, Index last_lanes) {
    const int whole = last_lanes == WIDTH ? vectors : vectors - 1; /* vectors of which all lanes belong to C */
    Vector sums[TILE_ROWS][2];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++) {
            const float *from = out + i * out_row + j * WIDTH;
            if (start == FROM_OUTPUT)
                sums[i][j] = j < whole ? load(from) : load_part(from, last_lanes);
            else
                sums[i][j] = start == FROM_BIAS ? load(b + j * WIDTH) : splat(0.0f);
        }
    if (start == FROM_BIAS) b += b_step;
    for (Index k = 0; k < depth; k++) {
        Vector right[2];
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++) right[j] = load(b + k * b_step + j * WIDTH);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            Vector left = splat(a.data[i * a.row + k * a.step]);
#pragma GCC unroll 2
            for (int j = 0; j < vectors; j++) sums[i][j] = fused(left, right[j], sums[i][j]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++) {
            float *to = out + i * out_row + j * WIDTH;
            if (j < whole)
                store(to, sums[i][j]);
            else
                store_part(to, sums[i][j], last_lanes);
        }
}

static inline __attribute__((always_inline)) void panel_product(const int vectors, Index rows, Index depth, Left a,
                                                                const float *b, Index b_step, Start start, float *out,
                                                                Index out_row, Index last_lanes) {
    for (; rows >= TILE_ROWS; rows -= TILE_ROWS) {
        tile(6, vectors, depth, a, b, b_step, start, out, out_row, last_lanes);
        a.data += TILE_ROWS * a.row;
        out += TILE_ROWS * out_row;
    }
    switch (rows) {
    case 5: tile(5, vectors, depth, a, b, b_step, start, out, out_row, last_lanes); break;
    case 4: tile(4, vectors, depth, a, b, b_step, start, out, out_row, last_lanes); break;
    case 3: tile(3, vectors, depth, a, b, b_step, start, out, out_row, last_lanes); break;
    case 2: tile(2, vectors, depth, a, b, b_step, start, out, out_row, last_lanes); break;
    case 1: tile(1, vectors, depth, a, b, b_step, start, out, out_row, last_lanes); break;
    default: break;
    }
}

/* C, (rows, columns), from A, (rows, depth), and B, (depth, columns) */
static void product(Index rows, Index columns, Index depth, Left a, Right b, Start start, float *out, Index out_row) {
    for (; columns > WIDTH; columns -= PANEL) {
        Index last_lanes = smaller(columns, PANEL) - WIDTH;
        panel_product(2, rows, depth, a, b.data, b.step, start, out, out_row, last_lanes);
        b.data += b.panel;
        out += PANEL;
    }
    if (columns > 0) panel_product(1, rows, depth, a, b.data, b.step, start, out, out_row, columns);
}

/* Panels of W, (rows, columns): what multiplies dL/dz from the right */
static void pack(Index rows, Index columns, const float *weight, float *panels) {
    for (Index first = 0; first < columns; first += PANEL, panels += rows * PANEL) {
        Index low = smaller(columns - first, WIDTH), high = smaller(columns - first, PANEL) - low;
        for (Index i = 0; i < rows; i++) {
            const float *from = weight + i * columns + first;
            store(panels + i * PANEL, load_part(from, low));
            store(panels + i * PANEL + WIDTH, load_part(from + low, high));
        }
    }
}

#if defined(INSTRUCTIONS_AVX2) || defined(INSTRUCTIONS_AVX512)
static inline void transpose_8x8(const float *from, Index from_row, float *to, Index to_row) {
    __m256 pairs[8], fours[8];
    for (int i = 0; i < 4; i++) {
        const __m256 even = _mm256_loadu_ps(from + 2 * i * from_row),
                     odd = _mm256_loadu_ps(from + (2 * i + 1) * from_row);
        pairs[2 * i] = _mm256_unpacklo_ps(even, odd);
        pairs[2 * i + 1] = _mm256_unpackhi_ps(even, odd);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            fours[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], _MM_SHUFFLE(1, 0, 1, 0));
            fours[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], _MM_SHUFFLE(3, 2, 3, 2));
        }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(to + i * to_row, _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20));
        _mm256_storeu_ps(to + (i + 4) * to_row, _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31));
    }
}
#endif

/* to = from^T, of shape (columns, rows) */
static void transpose(Index rows, Index columns, const float *from, Index from_row, float *to, Index to_row) {
    Index j = 0;
#if defined(INSTRUCTIONS_AVX2) || defined(INSTRUCTIONS_AVX512)
    for (; rows % 8 == 0 && j + 8 <= columns; j += 8)
        for (Index i = 0; i < rows; i += 8)
            transpose_8x8(from + i * from_row + j, from_row, to + j * to_row + i, to_row);
#endif
    for (; j < columns; j++)
        for (Index i = 0; i < rows; i++) to[j * to_row + i] = from[i * from_row + j];
}

/* Panels of b and W^T, with W of shape (rows, columns): what multiplies x from the right. The last panel's padding is
 * zero from the beginning and stays so. */
static void pack_transposed(Index rows, Index columns, const float *weight, const float *bias, float *panels) {
    for (Index first = 0; first < rows; first += PANEL, panels += (columns + 1) * PANEL) {
        const Index count = smaller(rows - first, PANEL);
        memcpy(panels, bias + first, (size_t)count * sizeof(float));
        transpose(count, columns, weight + first * columns, columns, panels + PANEL, PANEL);
    }
}

/* 4. Networks ---------------------------------------------------------------------------------------------------- */

static inline Vector activated(Activation activation, Vector z) {
    if (activation == TANH) return tanh_of(z);
    if (activation == RELU) return select_lanes(z <= 0.0f, splat(0.0f), z); /* NaN stays */
    return z;
}

/* h = f(z) in place */
static void activate(Activation activation, Index rows, Index columns, float *h, Index stride) {
    if (activation == LINEAR) return;
    for (Index i = 0; i < rows; i++)
        for (Index j = 0; j < columns; j += WIDTH) {
            float *at = h + i * stride + j;
            store(at, activated(activation, load(at)));
        }
}

/* dL/dz = dL/dh f'(z) in place; f' follows from h: 1 - h^2 for tanh, h > 0 for ReLU */
static void differentiate(Activation activation, Index rows, Index columns, const float *h, float *slopes,
                          Index stride) {
    if (activation == LINEAR) return;
    for (Index i = 0; i < rows; i++)
        for (Index j = 0; j < columns; j += WIDTH) {
            Vector value = load(h + i * stride + j), slope = load(slopes + i * stride + j);
            Vector result =
                activation == TANH ? slope * (1.0f - value * value) : select_lanes(value > 0.0f, slope, splat(0.0f));
            store(slopes + i * stride + j, result);
        }
}

static void pack_forward(Network *network) {
    for (Index l = 0; l < network->depth; l++) {
        const Layer *layer = &network->layers[l];
        pack_transposed(layer->outputs, layer->inputs, network->values + layer->weight, network->values + layer->bias,
                        layer->forward_panels);
    }
}

static void pack_backward(Network *network) {
    for (Index l = 1; l < network->depth; l++) { /* nobody asks for the gradient by the input */
        const Layer *layer = &network->layers[l];
        pack(layer->outputs, layer->inputs, network->values + layer->weight, layer->backward_panels);
    }
}

/* out = f(x W^T + b) for up to CHUNK rows, from packed weights; all columns up to a multiple of WIDTH are written */
static void layer_forward(const Layer *layer, Index rows, const float *x, Index x_stride, float *out) {
    Index columns = rounded_up(layer->outputs, WIDTH);
    Left a = {x, x_stride, 1};
    Right b = {layer->forward_panels, (layer->inputs + 1) * PANEL, PANEL};
    product(rows, columns, layer->inputs, a, b, FROM_BIAS, out, layer->stride);
    activate(layer->activation, rows, columns, out, layer->stride);
}

/* The same for a single row, as dot products with the rows of W: packing would take longer than the product */
static void layer_forward_row(const Network *network, const Layer *layer, const float *x, float *out) {
    const float *weight = network->values + layer->weight, *bias = network->values + layer->bias;
    const Index whole = layer->inputs / WIDTH * WIDTH, rest = layer->inputs - whole;
    for (Index i = 0; i < layer->outputs; i++, weight += layer->inputs) {
        Vector sum = splat(0.0f);
        for (Index j = 0; j < whole; j += WIDTH) sum = fused(load(weight + j), load(x + j), sum);
        if (rest > 0) sum = fused(load_part(weight + whole, rest), load_part(x + whole, rest), sum);
        out[i] = bias[i] + sum_lanes(sum);
    }
    const Index padded = rounded_up(layer->outputs, WIDTH);
    for (Index i = layer->outputs; i < padded; i++) out[i] = 0.0f;
    activate(layer->activation, 1, padded, out, layer->stride);
}

/* Outputs of up to CHUNK rows of x, one row every last_layer()->stride floats; nothing is kept for backward.
 * Weights must have been packed unless there are only FEW_ROWS. */
enum { FEW_ROWS = 4 };
static const float *outputs_of(Network *network, Index rows, const float *x) {
    Index stride = network->layers[0].inputs;
    for (Index l = 0; l < network->depth; l++) {
        const Layer *layer = &network->layers[l];
        float *out = network->scratch[l % 2];
        if (rows > FEW_ROWS)
            layer_forward(layer, rows, x, stride, out);
        else
            for (Index i = 0; i < rows; i++) layer_forward_row(network, layer, x + i * stride, out + i * layer->stride);
        x = out;
        stride = layer->stride;
    }
    return x;
}

/* As outputs_of for a whole minibatch, keeping what backward needs */
static void network_forward(Network *network, Index rows, const float *x) {
    const Index inputs = network->layers[0].inputs;
    for (Index i = 0; i < rows; i++)
        memcpy(network->input + i * network->input_stride, x + i * inputs, (size_t)inputs * sizeof(float));
    network->rows = rows;
    pack_forward(network);
    for (Index first = 0; first < rows; first += CHUNK) {
        Index count = smaller(rows - first, CHUNK), stride = network->input_stride;
        const float *below = network->input + first * stride;
        for (Index l = 0; l < network->depth; l++) {
            const Layer *layer = &network->layers[l];
            float *out = layer->kept + first * layer->stride;
            layer_forward(layer, count, below, stride, out);
            below = out;
            stride = layer->stride;
        }
    }
}

/* db = sum over rows of dL/dz */
static void bias_gradient(Index rows, Index columns, const float *slopes, Index stride, Start start, float *out) {
    for (Index j = 0; j < columns; j += WIDTH) {
        Index lanes = smaller(columns - j, WIDTH);
        Vector sum = start == FROM_OUTPUT ? load_part(out + j, lanes) : splat(0.0f);
        for (Index i = 0; i < rows; i++) sum += load(slopes + i * stride + j);
        store_part(out + j, sum, lanes);
    }
}

/* Gradients of all layers for the `count` kept rows from `first`, given dL/d(outputs) in scratch[depth % 2], where
 * columns beyond the outputs are zero. With s = dL/dz: dW = s^T h_below, db = sum s, dL/dh_below = s W. */
static void chunk_backward(Network *network, Index first, Index count) {
    const Start start = first == 0 ? FROM_ZERO : FROM_OUTPUT;
    for (Index l = network->depth - 1; l >= 0; l--) {
        const Layer *layer = &network->layers[l], *under = l > 0 ? layer - 1 : NULL;
        float *slopes = network->scratch[(l + 1) % 2], *next = network->scratch[l % 2];
        const Index below_stride = under ? under->stride : network->input_stride;
        const float *below = (under ? under->kept : network->input) + first * below_stride;
        differentiate(layer->activation, count, rounded_up(layer->outputs, WIDTH), layer->kept + first * layer->stride,
                      slopes, layer->stride);
        bias_gradient(count, layer->outputs, slopes, layer->stride, start, network->gradients + layer->bias);
        Left transposed = {slopes, 1, layer->stride};
        Right h = {below, PANEL, below_stride};
        product(layer->outputs, layer->inputs, count, transposed, h, start, network->gradients + layer->weight,
                layer->inputs);
        if (under == NULL) return;
        Left s = {slopes, layer->stride, 1};
        Right weight = {layer->backward_panels, layer->outputs * PANEL, PANEL};
        product(count, rounded_up(layer->inputs, WIDTH), layer->outputs, s, weight, FROM_ZERO, next, under->stride);
    }
}

/* 5. Action distributions ---------------------------------------------------------------------------------------- */
/* For WIDTH samples at once, one per lane; fewer where the rows end, and then the other lanes hold zeros. Each keeps
 * COLUMNS x K vectors for its backward: `kept`. A sample that is missing has slopes of zero. */

static const float LOG_SQRT_2PI = 0.918938533204672742f;

typedef struct { /* of WIDTH samples: the quantities, or the slopes of the loss by them */
    Vector log_prob, entropy, kl;
} Figures;

typedef struct {                                     /* WIDTH rows of matrices */
    Index count;                                     /* lanes in use */
    const float *outputs, *old_outputs, *mean_noise; /* (n, K), old_outputs and mean_noise contiguous, or NULL */
    Index stride;                                    /* of outputs */
    const float *actions;                            /* (n, D) */
    const float *old_std;
} Block;

/* log p_k = z_k - max z - log sum_k e^(z_k - max z), in place; and p_k */
static inline void log_softmax(Index choices, Vector *z, Vector *probs) {
    Vector highest = z[0], sum = splat(0.0f);
    for (Index k = 1; k < choices; k++) highest = select_lanes(z[k] > highest, z[k], highest);
    for (Index k = 0; k < choices; k++) {
        z[k] -= highest;
        sum += exp_of(z[k]);
    }
    Vector log_sum = log_of(sum);
    for (Index k = 0; k < choices; k++) {
        z[k] -= log_sum;
        probs[k] = exp_of(z[k]);
    }
}

/* log pi(a) = log p_a, H = -sum p log p, KL = sum p_old (log p_old - log p); summed over the D categoricals.
 * Kept: log p, p, p_old, and the actions (D <= K). */
static Figures categorical_forward(const Head *head, const Block *block, Vector *kept) {
    const Index outputs = head->outputs;
    Vector *log_probs = kept, *probs = kept + outputs, *old_probs = kept + 2 * outputs, *actions = kept + 3 * outputs;
    Vector *old_log_probs = (Vector *)head->scratch;
    Figures sums = {splat(0.0f), splat(0.0f), splat(0.0f)};
    for (Index d = 0, first = 0; d < head->actions; first += head->choices[d], d++) {
        const Index choices = head->choices[d], end = first + choices;
        actions[d] = gather(block->actions + d, head->actions, block->count);
        for (Index k = first; k < end; k++) log_probs[k] = gather(block->outputs + k, block->stride, block->count);
        log_softmax(choices, log_probs + first, probs + first);
        for (Index k = first; k < end; k++) {
            sums.log_prob += select_lanes(actions[d] == (float)(k - first), log_probs[k], splat(0.0f));
            sums.entropy -= probs[k] * log_probs[k];
        }
        if (block->old_outputs == NULL) continue;
        for (Index k = first; k < end; k++) old_log_probs[k] = gather(block->old_outputs + k, outputs, block->count);
        log_softmax(choices, old_log_probs + first, old_probs + first);
        for (Index k = first; k < end; k++) sums.kl += old_probs[k] * (old_log_probs[k] - log_probs[k]);
    }
    return sums;
}

/* d log pi(a) / dz_k = [a = k] - p_k, dH / dz_k = -p_k (log p_k + H), d KL / dz_k = p_k - p_old,k */
static void categorical_backward(const Head *head, const Vector *kept, Figures slopes, int with_kl, Vector *gradient) {
    const Index outputs = head->outputs;
    const Vector *log_probs = kept, *probs = kept + outputs, *old_probs = kept + 2 * outputs;
    const Vector *actions = kept + 3 * outputs;
    for (Index d = 0, first = 0; d < head->actions; first += head->choices[d], d++) {
        const Index end = first + head->choices[d];
        Vector entropy = splat(0.0f);
        for (Index k = first; k < end; k++) entropy -= probs[k] * log_probs[k];
        for (Index k = first; k < end; k++) {
            Vector taken = select_lanes(actions[d] == (float)(k - first), splat(1.0f), splat(0.0f));
            gradient[k] = slopes.log_prob * (taken - probs[k]) - slopes.entropy * probs[k] * (log_probs[k] + entropy);
            if (with_kl) gradient[k] += slopes.kl * (probs[k] - old_probs[k]);
        }
    }
}

/* argmax of p / Exp(1), which torch.multinomial takes for one draw. noise: (n, choices) of each categorical in turn */
static Vector categorical_act(const Head *head, const Block *block, Index rows, Index row, const float *noise,
                              int64_t *actions) {
    Vector *log_probs = (Vector *)head->scratch, *probs = log_probs + head->outputs;
    Vector log_prob = splat(0.0f);
    for (Index d = 0, first = 0; d < head->actions; first += head->choices[d], d++) {
        const Index choices = head->choices[d];
        for (Index k = 0; k < choices; k++)
            log_probs[k] = gather(block->outputs + first + k, block->stride, block->count);
        log_softmax(choices, log_probs, probs);
        Vector highest = splat(-1.0f), chosen = splat(0.0f), its_log_prob = log_probs[0];
        for (Index k = 0; k < choices; k++) {
            Vector score = probs[k] / gather(noise + rows * first + row * choices + k, choices, block->count);
            Mask better = score > highest;
            highest = select_lanes(better, score, highest);
            chosen = select_lanes(better, splat((float)k), chosen);
            its_log_prob = select_lanes(better, log_probs[k], its_log_prob);
        }
        for (Index i = 0; i < block->count; i++) actions[i * head->actions + d] = (int64_t)chosen[i];
        log_prob += its_log_prob;
    }
    return log_prob;
}

/* Coins: log pi(a) = sum a z - log(1 + e^z), H = sum log(1 + e^z) - p z with p = 1 / (1 + e^-z),
 * KL = sum p_old (z_old - z) + log(1 + e^z) - log(1 + e^z_old). Kept: z, p, p_old, a. */
static Figures bernoulli_forward(const Head *head, const Block *block, Vector *kept) {
    const Index outputs = head->outputs;
    Vector *logits = kept, *probs = kept + outputs, *old_probs = kept + 2 * outputs, *actions = kept + 3 * outputs;
    Figures sums = {splat(0.0f), splat(0.0f), splat(0.0f)};
    for (Index k = 0; k < outputs; k++) {
        Vector z = logits[k] = gather(block->outputs + k, block->stride, block->count);
        Vector a = actions[k] = gather(block->actions + k, outputs, block->count), softplus = softplus_of(z);
        probs[k] = sigmoid_of(z);
        sums.log_prob += a * z - softplus;
        sums.entropy += softplus - probs[k] * z;
        if (block->old_outputs == NULL) continue;
        Vector old = gather(block->old_outputs + k, outputs, block->count);
        old_probs[k] = sigmoid_of(old);
        sums.kl += old_probs[k] * (old - z) + (softplus - softplus_of(old));
    }
    return sums;
}

/* d log pi(a) / dz = a - p, dH / dz = -z p (1 - p), d KL / dz = p - p_old */
static void bernoulli_backward(const Head *head, const Vector *kept, Figures slopes, int with_kl, Vector *gradient) {
    const Index outputs = head->outputs;
    const Vector *logits = kept, *probs = kept + outputs, *old_probs = kept + 2 * outputs;
    const Vector *actions = kept + 3 * outputs;
    for (Index k = 0; k < outputs; k++) {
        Vector p = probs[k];
        gradient[k] = slopes.log_prob * (actions[k] - p) - slopes.entropy * logits[k] * p * (1.0f - p);
        if (with_kl) gradient[k] += slopes.kl * (p - old_probs[k]);
    }
}

/* 1 where a uniform number is below p, as torch.bernoulli draws. noise: (n, K) */
static Vector bernoulli_act(const Head *head, const Block *block, const float *noise, float *actions) {
    Vector log_prob = splat(0.0f);
    for (Index k = 0; k < head->outputs; k++) {
        Vector z = gather(block->outputs + k, block->stride, block->count);
        Vector uniform = gather(noise + k, head->outputs, block->count);
        Vector a = select_lanes(uniform < sigmoid_of(z), splat(1.0f), splat(0.0f));
        scatter(actions + k, head->outputs, block->count, a);
        log_prob += a * z - softplus_of(z);
    }
    return log_prob;
}

/* Gaussian with mean mu, (n, K), and sigma, (K):
 * log pi(a) = sum -y^2 / 2 - log sigma - log(2 pi) / 2 with y = (a - mu) / sigma,
 * H = sum log sigma + 1/2 + log(2 pi) / 2,
 * KL = sum m^2 / 2 + s^2 / 2 - 1/2 - log s with m = (mu - mu_old) / sigma, s = sigma_old / sigma.
 * Kept: y, m; in the first lane of the third and fourth, 1 / sigma and s^2. */
static Figures gaussian_forward(const Head *head, const float *log_std, const Block *block, Vector *kept) {
    const Index outputs = head->outputs;
    Vector *y = kept, *m = kept + outputs, *inverse_std = kept + 2 * outputs, *variance_ratio = kept + 3 * outputs;
    Vector squares = splat(0.0f), log_stds = splat(0.0f);
    Figures sums = {splat(0.0f), splat(0.0f), splat(0.0f)};
    for (Index k = 0; k < outputs; k++) {
        const Vector mean = gather(block->outputs + k, block->stride, block->count);
        const Vector noise = block->mean_noise ? gather(block->mean_noise + k, outputs, block->count) : splat(0.0f);
        inverse_std[k] = exp_of(splat(-log_std[k]));
        log_stds += log_std[k];
        y[k] = (gather(block->actions + k, outputs, block->count) - (mean + noise)) * inverse_std[k];
        squares += y[k] * y[k];
        if (block->old_outputs == NULL) continue;
        const Vector s = block->old_std[k] * inverse_std[k];
        m[k] = (mean - gather(block->old_outputs + k, outputs, block->count)) * inverse_std[k];
        variance_ratio[k] = s * s;
        sums.kl += 0.5f * (m[k] * m[k]) + (0.5f * variance_ratio[k] - 0.5f - log_of(s));
    }
    const Vector constant = log_stds + (float)outputs * LOG_SQRT_2PI;
    sums.log_prob = -0.5f * squares - constant;
    sums.entropy = constant + 0.5f * (float)outputs;
    return sums;
}

/* d log pi / d mu = y / sigma, d log pi / d log sigma = y^2 - 1; dH / d log sigma = 1;
 * d KL / d mu = m / sigma, d KL / d log sigma = 1 - s^2 - m^2. The gradient by log sigma is added to `log_std`. */
static void gaussian_backward(const Head *head, const Vector *kept, Figures slopes, int with_kl, Vector *gradient,
                              float *log_std) {
    const Index outputs = head->outputs;
    const Vector *y = kept, *m = kept + outputs, *inverse_std = kept + 2 * outputs;
    const Vector *variance_ratio = kept + 3 * outputs;
    for (Index k = 0; k < outputs; k++) {
        Vector weighted = slopes.log_prob * y[k];
        Vector by_log_std = weighted * y[k] - slopes.log_prob + slopes.entropy;
        gradient[k] = weighted * inverse_std[k];
        if (with_kl) {
            gradient[k] += slopes.kl * m[k] * inverse_std[k];
            by_log_std += slopes.kl * (1.0f - (variance_ratio[k] + m[k] * m[k]));
        }
        log_std[k] += sum_lanes(by_log_std);
    }
}

/* a = mu + sigma e with e standard normal. noise: (n, K) */
static Vector gaussian_act(const Head *head, const float *log_std, const Block *block, const float *noise,
                           float *actions) {
    Vector squares = splat(0.0f), log_stds = splat(0.0f);
    for (Index k = 0; k < head->outputs; k++) {
        Vector e = gather(noise + k, head->outputs, block->count);
        Vector mean = gather(block->outputs + k, block->stride, block->count);
        scatter(actions + k, head->outputs, block->count, mean + e * exp_of(splat(log_std[k])));
        squares += e * e;
        log_stds += log_std[k];
    }
    return -0.5f * squares - (log_stds + (float)head->outputs * LOG_SQRT_2PI);
}

static inline Vector *kept_columns(const Head *head, Index row) {
    return (Vector *)head->kept + row / WIDTH * COLUMNS * head->outputs;
}

static void head_forward(Policy *policy, const Minibatch *minibatch) {
    const Head *head = &policy->head;
    const Index outputs = head->outputs, stride = last_layer(&policy->actor)->stride;
    for (Index row = 0; row < minibatch->rows; row += WIDTH) {
        const Block block = {
            .count = smaller(minibatch->rows - row, WIDTH),
            .outputs = last_layer(&policy->actor)->kept + row * stride,
            .old_outputs = minibatch->old_outputs ? minibatch->old_outputs + row * outputs : NULL,
            .mean_noise = minibatch->mean_noise ? minibatch->mean_noise + row * outputs : NULL,
            .stride = stride,
            .actions = minibatch->actions + row * head->actions,
            .old_std = minibatch->old_std,
        };
        Vector *kept = kept_columns(head, row);
        const float *log_std = policy->actor.values + head->log_std;
        Figures figures = head->kind == CATEGORICAL ? categorical_forward(head, &block, kept)
                          : head->kind == BERNOULLI ? bernoulli_forward(head, &block, kept)
                                                    : gaussian_forward(head, log_std, &block, kept);
        store_part(minibatch->log_probs + row, figures.log_prob, block.count);
        store_part(minibatch->entropies + row, figures.entropy, block.count);
        if (block.old_outputs) store_part(minibatch->kls + row, figures.kl, block.count);
    }
}

static inline Vector slopes_of(const float *slopes, Index row, Index count) {
    return slopes ? load_part(slopes + row, count) : splat(0.0f);
}

/* Write dL/d(outputs) of `rows` samples from `first` on, to where chunk_backward expects it */
static void head_backward(Policy *policy, const Slopes *slopes, Index first, Index rows) {
    Network *actor = &policy->actor;
    const Head *head = &policy->head;
    const Index stride = last_layer(actor)->stride;
    float *out = actor->scratch[actor->depth % 2], *log_std = actor->gradients + head->log_std;
    const int with_kl = slopes->kls != NULL;
    Vector *gradient = (Vector *)head->scratch;
    memset(out, 0, (size_t)(rows * stride) * sizeof(float));
    for (Index row = first; row < first + rows; row += WIDTH, out += WIDTH * stride) {
        const Index count = smaller(first + rows - row, WIDTH);
        const Figures of_block = {slopes_of(slopes->log_probs, row, count), slopes_of(slopes->entropies, row, count),
                                  slopes_of(slopes->kls, row, count)};
        const Vector *kept = kept_columns(head, row);
        if (head->kind == CATEGORICAL) categorical_backward(head, kept, of_block, with_kl, gradient);
        if (head->kind == BERNOULLI) bernoulli_backward(head, kept, of_block, with_kl, gradient);
        if (head->kind == GAUSSIAN) gaussian_backward(head, kept, of_block, with_kl, gradient, log_std);
        for (Index k = 0; k < head->outputs; k++) scatter(out + k, stride, count, gradient[k]);
    }
}

/* 6. Norm and Adam ----------------------------------------------------------------------------------------------- */

static double squared_norm(const Network *network) {
    Vector sums[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
    const float *gradient = network->gradients;
    Index i = 0;
    for (; i + 4 * WIDTH <= network->size; i += 4 * WIDTH)
        for (int j = 0; j < 4; j++) {
            Vector g = load(gradient + i + j * WIDTH);
            sums[j] = fused(g, g, sums[j]);
        }
    for (; i < network->size; i += WIDTH) {
        Vector g = load_part(gradient + i, smaller(network->size - i, WIDTH));
        sums[0] = fused(g, g, sums[0]);
    }
    return sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

typedef struct {
    Vector decay1, decay2, share1, share2, epsilon, rate;
} AdamFactors;

static inline __attribute__((always_inline)) void adam_lanes(const Network *network, Index i, Index count,
                                                             const AdamFactors *f) {
    float *values = network->values + i, *first = network->first_moments + i, *second = network->second_moments + i;
    const Vector g = load_part(network->gradients + i, count), scaled = g * f->share2;
    const Vector m = load_part(first, count) * f->decay1 + g * f->share1;
    const Vector v = load_part(second, count) * f->decay2 + scaled * scaled;
    store_part(first, m, count);
    store_part(second, v, count);
    store_part(values, load_part(values, count) - m / (root(v) + f->epsilon) * f->rate, count);
}

/* m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, w = w - rate c / (1 - b1^t) m / (sqrt v + c eps), c = sqrt(1 - b2^t)
 * (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1), with the operations of engines' NumPy Adam one by one. The gradient
 * is scaled before it is squared: a huge one that clipping has taken to nothing must not overflow. */
static void adam(const Network *network, const AdamStep *step) {
    const double correction2 = sqrt(1 - pow(step->beta2, (double)step->step));
    const double correction1 = 1 - pow(step->beta1, (double)step->step);
    const AdamFactors factors = {
        .decay1 = splat((float)step->beta1),
        .decay2 = splat((float)step->beta2),
        .share1 = splat((float)(step->gradient_scale * (1 - step->beta1))),
        .share2 = splat((float)(step->gradient_scale * sqrt(1 - step->beta2))),
        .epsilon = splat((float)(step->epsilon * correction2)),
        .rate = splat((float)(step->learning_rate * correction2 / correction1)),
    };
    const Index whole = network->size / WIDTH * WIDTH;
    for (Index i = 0; i < whole; i += WIDTH) adam_lanes(network, i, WIDTH, &factors);
    if (whole < network->size) adam_lanes(network, whole, network->size - whole, &factors);
}

/* 7. What the module calls --------------------------------------------------------------------------------------- */

static void forward(Network *network, Index rows, const float *x, float *outputs) {
    const Layer *last = last_layer(network);
    if (rows > FEW_ROWS) pack_forward(network);
    for (Index first = 0; first < rows; first += CHUNK) {
        const Index count = smaller(rows - first, CHUNK);
        const float *chunk = outputs_of(network, count, x + first * network->layers[0].inputs);
        for (Index i = 0; i < count; i++)
            memcpy(outputs + (first + i) * last->outputs, chunk + i * last->stride,
                   (size_t)last->outputs * sizeof(float));
    }
}

static Vector act_on_block(const Policy *policy, const Block *block, Index rows, Index row, const float *noise,
                           void *actions) {
    const Head *head = &policy->head;
    if (head->kind == CATEGORICAL)
        return categorical_act(head, block, rows, row, noise, (int64_t *)actions + row * head->actions);
    float *here = (float *)actions + row * head->actions;
    const float *its_noise = noise + row * head->outputs;
    if (head->kind == BERNOULLI) return bernoulli_act(head, block, its_noise, here);
    return gaussian_act(head, policy->actor.values + head->log_std, block, its_noise, here);
}

/* Neither NaN nor infinite: 0 times such a number is NaN */
static int all_finite(Index count, const float *x) {
    float sum = 0;
    for (Index i = 0; i < count; i++) sum += 0 * x[i];
    return sum == 0;
}

static void narrow(Index count, const double *x, float *y) {
    for (Index i = 0; i < count; i++) y[i] = (float)x[i];
}

/* Returns whether log-probabilities and actions are finite: an infinite mean leaves the log-probability finite */
static int act(Policy *policy, Index rows, const float *x, const float *noise, void *actions, float *values,
               float *log_probs) {
    Network *actor = &policy->actor;
    forward(&policy->critic, rows, x, values);
    if (rows > FEW_ROWS) pack_forward(actor);
    for (Index first = 0; first < rows; first += CHUNK) {
        const Index count = smaller(rows - first, CHUNK), stride = last_layer(actor)->stride;
        const float *outputs = outputs_of(actor, count, x + first * actor->layers[0].inputs);
        for (Index row = 0; row < count; row += WIDTH) {
            const Block block = {
                .count = smaller(count - row, WIDTH), .outputs = outputs + row * stride, .stride = stride};
            Vector log_prob = act_on_block(policy, &block, rows, first + row, noise, actions);
            store_part(log_probs + first + row, log_prob, block.count);
        }
    }
    const int are_numbers = policy->head.kind == CATEGORICAL || all_finite(rows * policy->head.actions, actions);
    return are_numbers && all_finite(rows, log_probs);
}

/* Returns the mean entropy, 0 where the actor does not run */
static double evaluate(Policy *policy, const Minibatch *minibatch) {
    const Index rows = minibatch->rows;
    if (minibatch->values) {
        const Layer *last = last_layer(&policy->critic);
        network_forward(&policy->critic, rows, minibatch->x);
        for (Index i = 0; i < rows; i++) minibatch->values[i] = last->kept[i * last->stride];
    }
    if (minibatch->actions == NULL) return 0;
    network_forward(&policy->actor, rows, minibatch->x);
    head_forward(policy, minibatch);
    double entropy = 0;
    for (Index i = 0; i < rows; i++) entropy += minibatch->entropies[i];
    return entropy / (double)rows;
}

static double critic_backward(Network *critic, const float *slopes) {
    const Index stride = last_layer(critic)->stride;
    pack_backward(critic);
    for (Index first = 0; first < critic->rows; first += CHUNK) {
        const Index count = smaller(critic->rows - first, CHUNK);
        float *out = critic->scratch[critic->depth % 2];
        memset(out, 0, (size_t)(count * stride) * sizeof(float));
        for (Index i = 0; i < count; i++) out[i * stride] = slopes[first + i];
        chunk_backward(critic, first, count);
    }
    return squared_norm(critic);
}

static double actor_backward(Policy *policy, const Slopes *slopes) {
    Network *actor = &policy->actor;
    pack_backward(actor);
    if (policy->head.kind == GAUSSIAN)
        memset(actor->gradients + policy->head.log_std, 0, (size_t)policy->head.outputs * sizeof(float));
    for (Index first = 0; first < actor->rows; first += CHUNK) {
        const Index count = smaller(actor->rows - first, CHUNK);
        head_backward(policy, slopes, first, count);
        chunk_backward(actor, first, count);
    }
    return squared_norm(actor);
}

/* Writes the gradients of the minibatch that is kept; returns their squared norm */
static double backward(Policy *policy, const Slopes *slopes) {
    double norm = 0;
    if (slopes->values) norm += critic_backward(&policy->critic, slopes->values);
    if (slopes->log_probs) norm += actor_backward(policy, slopes);
    return norm;
}

static void apply(char function, Index count, const float *x, float *y) {
    for (Index i = 0; i < count; i += WIDTH) {
        const Index lanes = smaller(count - i, WIDTH);
        const Vector v = load_part(x + i, lanes);
        store_part(y + i, function == 't' ? tanh_of(v) : function == 'e' ? exp_of(v) : log_of(v), lanes);
    }
}

const struct Kernels KERNELS = {
    .name = INSTRUCTIONS,
    .forward = forward,
    .act = act,
    .narrow = narrow,
    .evaluate = evaluate,
    .backward = backward,
    .adam = adam,
    .apply = apply,
};

/* What the kernels and the module share: the policy's layout in memory, and the table of what can be called. */
#ifndef SB3_PPO_VARIANTS_KERNELS_H
#define SB3_PPO_VARIANTS_KERNELS_H

#if !defined(__GNUC__)
#error "needs the vector extensions of GCC or clang; without this module the engine runs on NumPy"
#endif

#include <stddef.h>

typedef ptrdiff_t Index;

enum {
    CHUNK = 96,     /* rows that pass through a network together, so that their activations stay in the L2 cache */
    ALIGNMENT = 32, /* floats; workspace rows are padded to it: the widest panel of a product */
    COLUMNS = 4,    /* vectors per output that a distribution keeps of WIDTH samples */
};

typedef enum { LINEAR, TANH, RELU } Activation;
typedef enum { CATEGORICAL, BERNOULLI, GAUSSIAN } Distribution;

typedef struct { /* h = f(x W^T + b) */
    Index inputs, outputs;
    Index weight, bias; /* where W, (outputs, inputs), and b start in the flat buffers */
    Activation activation;
    Index stride;           /* floats from row to row of `kept` */
    float *kept;            /* h of every row of the minibatch; zeros beyond the outputs */
    float *forward_panels;  /* b and W^T in the order in which `product` reads them */
    float *backward_panels; /* W likewise */
} Layer;

typedef struct {
    Index depth; /* number of layers */
    Layer *layers;
    Index size;                                                 /* floats in each flat buffer */
    float *values, *gradients, *first_moments, *second_moments; /* flat buffers; they belong to the caller */
    Index input_stride, widest;                                 /* the largest stride of all */
    float *input;                                               /* the minibatch, padded with zeros */
    float *scratch[2];                                          /* CHUNK rows each */
    Index rows;                                                 /* of the minibatch that is kept */
} Network;

typedef struct {
    Distribution kind;
    Index outputs;  /* K: outputs of the policy network */
    Index actions;  /* D: numbers in an action */
    Index *choices; /* categoricals stand side by side: outputs of each of the D */
    Index log_std;  /* where log sigma starts in the actor's flat buffers */
    float *kept;    /* COLUMNS x K vectors for each WIDTH rows of the minibatch */
    float *scratch; /* COLUMNS x K vectors */
} Head;

struct Kernels;

typedef struct {
    const struct Kernels *kernels;
    Network actor, critic;
    Head head;
    Index capacity; /* rows that fit in what is kept of a minibatch */
} Policy;

typedef struct { /* arrays of one minibatch; all contiguous; n: rows. Without actions the actor does not run, without
                  * values the critic does not */
    Index rows;
    const float *x;           /* (n, inputs) */
    const float *actions;     /* (n, D), or NULL */
    const float *mean_noise;  /* (n, K), added to the mean of a Gaussian, or NULL */
    const float *old_outputs; /* (n, K), or NULL */
    const float *old_std;     /* (K) for a Gaussian with old_outputs */
    float *log_probs, *entropies;
    float *values; /* or NULL */
    float *kls;    /* written where old_outputs is given */
} Minibatch;

typedef struct { /* dL/d(quantity of a sample), (n). Entropies and KLs: NULL means zero; log-probabilities, values: NULL
                  * means that the actor, or the critic, is left as it is. KLs: only after old_outputs */
    const float *log_probs, *entropies, *kls, *values;
} Slopes;

typedef struct {
    double gradient_scale, learning_rate, beta1, beta2, epsilon;
    Index step; /* counted from 1 */
} AdamStep;

struct Kernels {
    const char *name; /* of the instructions that they need */
    void (*forward)(Network *, Index rows, const float *x, float *outputs);
    int (*act)(Policy *, Index rows, const float *x, const float *noise, void *actions, float *values,
               float *log_probs);
    void (*narrow)(Index count, const double *x, float *y);
    double (*evaluate)(Policy *, const Minibatch *);
    double (*backward)(Policy *, const Slopes *);
    void (*adam)(const Network *, const AdamStep *);
    void (*apply)(char function, Index count, const float *x, float *y);
};

static inline Index smaller(Index a, Index b) { return a < b ? a : b; }
static inline const Layer *last_layer(const Network *network) { return &network->layers[network->depth - 1]; }
static inline Index rounded_up(Index n, Index unit) { return (n + unit - 1) / unit * unit; }

extern const struct Kernels kernels_baseline;
#if defined(__x86_64__)
extern const struct Kernels kernels_avx2, kernels_avx512;
#endif

#endif

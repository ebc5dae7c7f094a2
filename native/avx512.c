/* The kernels for x86-64 processors with AVX-512 (F, DQ, BW, VL). */
#if defined(__x86_64__)
#define INSTRUCTIONS "avx512"
#define INSTRUCTIONS_AVX512
#define WIDTH 16
#define KERNELS kernels_avx512
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl"))),                   \
                             apply_to = function)
#else
#pragma GCC target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl,prefer-vector-width=512")
#endif
#include "kernels.c"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

/* The kernels for x86-64 processors with AVX2 and FMA. */
#if defined(__x86_64__)
#define INSTRUCTIONS "avx2"
#define INSTRUCTIONS_AVX2
#define WIDTH 8
#define KERNELS kernels_avx2
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#include "kernels.c"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

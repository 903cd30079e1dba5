// Small matrix products whose factors stay in the cache of a core. For the kernels alone, because it is
// compiled once per instruction set.
#pragma once

#include <stdint.h>

namespace autoswarm {
namespace {

#ifndef LANES
#define LANES 4
#endif
constexpr int64_t WIDE = 2 * LANES; // columns of a tile of the small products
constexpr int TALL = LANES == 16 ? 8 : LANES == 8 ? 6 : 4; // rows of a tile; its sums stay in registers

typedef float Lanes __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

#define INLINE inline __attribute__((always_inline))

// One tile of c (+)= a b, with its sums in registers. a is read by element, b and c by row.
template <int ROWS>
INLINE void tile(int64_t depth, const float* a, int64_t a_row, int64_t a_column, const float* b, int64_t ldb,
                 float* c, int64_t ldc, bool add) {
    Lanes sums[ROWS][2];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
        sums[r][0] = add ? *(const Lanes*)(c + r * ldc) : Lanes{};
        sums[r][1] = add ? *(const Lanes*)(c + r * ldc + LANES) : Lanes{};
    }
    for (int64_t k = 0; k < depth; k++) {
        const Lanes one = *(const Lanes*)(b + k * ldb), two = *(const Lanes*)(b + k * ldb + LANES);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            const float factor = a[r * a_row + k * a_column];
            sums[r][0] += factor * one;
            sums[r][1] += factor * two;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
        *(Lanes*)(c + r * ldc) = sums[r][0];
        *(Lanes*)(c + r * ldc + LANES) = sums[r][1];
    }
}

// c (+)= a b for c of rows × columns. columns is a multiple of WIDE.
inline void product(int64_t rows, int64_t columns, int64_t depth, const float* a, int64_t a_row,
                    int64_t a_column, const float* b, int64_t ldb, float* c, int64_t ldc, bool add) {
    for (int64_t j = 0; j < columns; j += WIDE) {
        int64_t i = 0;
        for (; i + TALL <= rows; i += TALL)
            tile<TALL>(depth, a + i * a_row, a_row, a_column, b + j, ldb, c + i * ldc + j, ldc, add);
        for (; i + 2 <= rows; i += 2)
            tile<2>(depth, a + i * a_row, a_row, a_column, b + j, ldb, c + i * ldc + j, ldc, add);
        for (; i < rows; i++)
            tile<1>(depth, a + i * a_row, a_row, a_column, b + j, ldb, c + i * ldc + j, ldc, add);
    }
}

INLINE int64_t round_up(int64_t x) { return (x + 31) / 32 * 32; }

} // namespace
} // namespace autoswarm

// Muon's matrix products, one matrix after the other, each in the cache of a core from start to end. LEVEL
// names the instruction set.
#include "product.h"
#include "shim.h"

namespace autoswarm {
namespace {

// Rows of a factor between two loads of a tile's sums: as many as stay in the first-level cache.
constexpr int64_t DEEP = 128;

// c = aᵀ a for a of depth × size. Tiles above the diagonal are computed, and the rest is mirrored.
void gram(int64_t size, int64_t depth, const float* a, float* c) {
    for (int64_t j = 0; j < size; j += WIDE)
        for (int64_t k = 0; k < depth; k += DEEP) {
            const int64_t deep = depth - k < DEEP ? depth - k : DEEP;
            product(j + WIDE, WIDE, deep, a + k * size, 1, size, a + k * size + j, size, c + j, size, k > 0);
        }
    for (int64_t i = 0; i < size; i++)
        for (int64_t j = 0; j < i / WIDE * WIDE; j++) c[i * size + j] = c[j * size + i];
}

// Calls `of` with each place of a matrix of rows × columns. It goes by strips, so that the rows of the
// transpose stay in the cache too.
template <class F>
INLINE void turn(int64_t rows, int64_t columns, F of) {
    constexpr int64_t STRIP = 16; // a cache line of numbers
    for (int64_t first = 0; first < columns; first += STRIP) {
        const int64_t last = first + STRIP < columns ? first + STRIP : columns;
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = first; j < last; j++) of(i, j);
    }
}

// c = a b for a of rows × size and b of size × size.
void multiply(int64_t rows, int64_t size, const float* a, const float* b, float* c) {
    for (int64_t k = 0; k < size; k += DEEP) {
        const int64_t deep = size - k < DEEP ? size - k : DEEP;
        product(rows, size, deep, a + k, size, 1, b + k * size, size, c, size, k > 0);
    }
}

} // namespace

namespace LEVEL {

// A tall matrix X stays as it is and a wide one is transposed. Both are then X ← X (a + b G + c G²) with G =
// Xᵀ X.
void orthogonalise(const Orthogonalise& o, int64_t index, float* scratch) {
    const int64_t longer = o.longer, shorter = o.shorter, size = o.padded;
    const bool turned = o.rows < o.columns;
    float* matrix = o.matrices + index * o.rows * o.columns;
    float *x = scratch, *next = x + longer * size, *g = next + longer * size, *polynomial = g + size * size;
    float squares = 0;
    for (int64_t i = 0; i < o.rows * o.columns; i++) squares += matrix[i] * matrix[i];
    // 1.02 is the safety factor of the coefficients.
    const float scale = 1.0f / (__builtin_sqrtf(squares) * 1.02f + 1e-6f);
    for (int64_t i = 0; i < longer; i++) {
        for (int64_t j = 0; !turned && j < shorter; j++) x[i * size + j] = scale * matrix[i * shorter + j];
        for (int64_t j = shorter; j < size; j++) x[i * size + j] = 0;
    }
    if (turned)
        turn(o.rows, o.columns,
             [&](int64_t i, int64_t j) { x[j * size + i] = scale * matrix[i * longer + j]; });
    for (int64_t n = 0; n < o.iterations; n++) {
        const float a = float(o.quintics[3 * n]), b = float(o.quintics[3 * n + 1]),
                    c = float(o.quintics[3 * n + 2]);
        gram(size, longer, x, g);
        gram(size, size, g, polynomial); // G is its own transpose
        for (int64_t i = 0; i < size * size; i++) polynomial[i] = c * polynomial[i] + b * g[i];
        for (int64_t i = 0; i < size; i++) polynomial[i * size + i] += a;
        multiply(longer, size, x, polynomial, next);
        float* swapped = x;
        x = next;
        next = swapped;
    }
    for (int64_t i = 0; i < longer && !turned; i++)
        for (int64_t j = 0; j < shorter; j++) matrix[i * shorter + j] = x[i * size + j];
    if (turned)
        turn(o.rows, o.columns, [&](int64_t i, int64_t j) { matrix[i * longer + j] = x[j * size + i]; });
}

} // namespace LEVEL
} // namespace autoswarm

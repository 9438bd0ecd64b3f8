// Two inner loops of the network on a CPU, for tensors whose channels lie last in memory: see kernels.py.
// Every sum runs over a fixed number of blocks of pixels, so that results do not depend on the number of threads.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int BLOCKS = 32;  // per image

using Bfloat16 = uint16_t;  // the upper half of a float

inline float load(float value) { return value; }
inline float load(Bfloat16 value) {
    uint32_t bits = uint32_t(value) << 16;
    float number;
    std::memcpy(&number, &bits, 4);
    return number;
}
inline void store(float* where, float value) { *where = value; }
inline void store(Bfloat16* where, float value) {  // rounded to nearest, ties to even; the NaN that arithmetic makes stays one
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    *where = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Both sums over the pixels of each block and image, for every channel: `term` adds one pixel.
template <typename Term>
std::vector<double> sums(int images, int64_t pixels, int channels, int threads, Term term) {
    std::vector<float> partial(size_t(images) * BLOCKS * 2 * channels, 0.f);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int task = 0; task < images * BLOCKS; ++task) {
        int64_t image = task / BLOCKS, block = task % BLOCKS;
        float* first = &partial[size_t(task) * 2 * channels];
        term(image, pixels * block / BLOCKS, pixels * (block + 1) / BLOCKS, first, first + channels);
    }
    std::vector<double> total(size_t(images) * 2 * channels, 0.0);
    for (int task = 0; task < images * BLOCKS; ++task)
        for (int i = 0; i < 2 * channels; ++i) total[size_t(task / BLOCKS) * 2 * channels + i] += partial[size_t(task) * 2 * channels + i];
    return total;
}

template <typename T>
void normalise(const T* x, const T* shortcut, const float* weight, const float* bias, T* y, float* mean, float* inverse, int images,
               int64_t pixels, int channels, int groups, float epsilon, float slope, int threads) {
    int per_group = channels / groups;
    auto total = sums(images, pixels, channels, threads, [=](int64_t image, int64_t from, int64_t to, float* sum, float* square) {
        int64_t p = from;
        for (; p + 4 <= to; p += 4) {
            const T* row = x + (image * pixels + p) * channels;
#pragma omp simd
            for (int c = 0; c < channels; ++c) {
                float a = load(row[c]), b = load(row[c + channels]), d = load(row[c + 2 * channels]), e = load(row[c + 3 * channels]);
                sum[c] += (a + b) + (d + e);
                square[c] += (a * a + b * b) + (d * d + e * e);
            }
        }
        for (; p < to; ++p) {
            const T* row = x + (image * pixels + p) * channels;
#pragma omp simd
            for (int c = 0; c < channels; ++c) sum[c] += load(row[c]), square[c] += load(row[c]) * load(row[c]);
        }
    });
    std::vector<float> factor(size_t(images) * channels), offset(size_t(images) * channels);
    for (int image = 0; image < images; ++image)
        for (int group = 0; group < groups; ++group) {
            double sum = 0, square = 0, n = double(pixels) * per_group;
            for (int c = group * per_group; c < (group + 1) * per_group; ++c)
                sum += total[size_t(image) * 2 * channels + c], square += total[(size_t(image) * 2 + 1) * channels + c];
            double centre = sum / n, variance = square / n - centre * centre;
            double r = 1 / std::sqrt((variance < 0 ? 0 : variance) + epsilon);
            mean[image * groups + group] = float(centre), inverse[image * groups + group] = float(r);
            for (int c = group * per_group; c < (group + 1) * per_group; ++c) {
                factor[size_t(image) * channels + c] = float(r * weight[c]);
                offset[size_t(image) * channels + c] = float(bias[c] - centre * r * weight[c]);
            }
        }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int task = 0; task < images * BLOCKS; ++task) {
        int64_t image = task / BLOCKS, block = task % BLOCKS;
        const float *a = &factor[size_t(image) * channels], *b = &offset[size_t(image) * channels];
        for (int64_t p = pixels * block / BLOCKS; p < pixels * (block + 1) / BLOCKS; ++p) {
            int64_t at = (image * pixels + p) * channels;
            if (shortcut)
#pragma omp simd
                for (int c = 0; c < channels; ++c) {
                    float value = a[c] * load(x[at + c]) + b[c];
                    store(y + at + c, load(shortcut[at + c]) + (value > 0 ? value : slope * value));
                }
            else
#pragma omp simd
                for (int c = 0; c < channels; ++c) {
                    float value = a[c] * load(x[at + c]) + b[c];
                    store(y + at + c, value > 0 ? value : slope * value);
                }
        }
    }
}

// With xhat = (x - mean) r and g the gradient behind LeakyReLU: dx = r (weight g - <weight g> - xhat <weight g xhat>), <.> the mean over a group.
template <typename T>
void normalise_backward(const T* x, const T* gradient, const float* weight, const float* bias, const float* mean, const float* inverse,
                        T* grad_x, float* grad_weight, float* grad_bias, int images, int64_t pixels, int channels, int groups, float slope,
                        int threads) {
    int per_group = channels / groups;
    std::vector<float> factor(size_t(images) * channels), offset(size_t(images) * channels);
    for (int image = 0; image < images; ++image)
        for (int c = 0; c < channels; ++c) {
            int group = image * groups + c / per_group;
            factor[size_t(image) * channels + c] = inverse[group] * weight[c];
            offset[size_t(image) * channels + c] = bias[c] - mean[group] * inverse[group] * weight[c];
        }
    const float *factors = factor.data(), *offsets = offset.data();
    auto total = sums(images, pixels, channels, threads, [=](int64_t image, int64_t from, int64_t to, float* sum, float* product) {
        const float *a = factors + image * channels, *b = offsets + image * channels, leak = slope;
        for (int64_t p = from; p < to; ++p) {
            const T *row = x + (image * pixels + p) * channels, *grad = gradient + (image * pixels + p) * channels;
#pragma omp simd
            for (int c = 0; c < channels; ++c) {
                float value = load(row[c]), g = load(grad[c]);
                g *= a[c] * value + b[c] > 0 ? 1.f : leak;
                sum[c] += g, product[c] += g * value;
            }
        }
    });
    std::vector<float> slope_x(size_t(images) * channels), constant(size_t(images) * channels);
    std::vector<double> by_weight(channels, 0.0), by_bias(channels, 0.0);
    for (int image = 0; image < images; ++image)
        for (int group = 0; group < groups; ++group) {
            double m = mean[image * groups + group], r = inverse[image * groups + group], n = double(pixels) * per_group;
            double weighted = 0, weighted_xhat = 0;
            for (int c = group * per_group; c < (group + 1) * per_group; ++c) {
                double sum = total[size_t(image) * 2 * channels + c];
                double sum_xhat = (total[(size_t(image) * 2 + 1) * channels + c] - m * sum) * r;
                by_bias[c] += sum, by_weight[c] += sum_xhat;
                weighted += weight[c] * sum / n, weighted_xhat += weight[c] * sum_xhat / n;
            }
            for (int c = group * per_group; c < (group + 1) * per_group; ++c) {
                slope_x[size_t(image) * channels + c] = float(-r * r * weighted_xhat);
                constant[size_t(image) * channels + c] = float(-r * weighted + r * r * weighted_xhat * m);
            }
        }
    for (int c = 0; c < channels; ++c) grad_weight[c] = float(by_weight[c]), grad_bias[c] = float(by_bias[c]);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int task = 0; task < images * BLOCKS; ++task) {
        int64_t image = task / BLOCKS, block = task % BLOCKS;
        const float *a = factors + image * channels, *b = offsets + image * channels;
        const float *s = &slope_x[size_t(image) * channels], *k = &constant[size_t(image) * channels];
        for (int64_t p = pixels * block / BLOCKS; p < pixels * (block + 1) / BLOCKS; ++p) {
            int64_t at = (image * pixels + p) * channels;
#pragma omp simd
            for (int c = 0; c < channels; ++c) {
                float value = load(x[at + c]), g = load(gradient[at + c]);
                g = a[c] * value + b[c] > 0 ? g : slope * g;
                store(grad_x + at + c, a[c] * g + s[c] * value + k[c]);
            }
        }
    }
}

}  // namespace

extern "C" {

#define NORMALISE(NAME, T)                                                                                                                 \
    void normalise_##NAME(const T* x, const T* shortcut, const float* weight, const float* bias, T* y, float* mean, float* inverse,        \
                          int images, int64_t pixels, int channels, int groups, float epsilon, float slope, int threads) {                 \
        normalise(x, shortcut, weight, bias, y, mean, inverse, images, pixels, channels, groups, epsilon, slope, threads);                 \
    }                                                                                                                                      \
    void normalise_backward_##NAME(const T* x, const T* gradient, const float* weight, const float* bias, const float* mean,               \
                                   const float* inverse, T* grad_x, float* grad_weight, float* grad_bias, int images, int64_t pixels,      \
                                   int channels, int groups, float slope, int threads) {                                                   \
        normalise_backward(x, gradient, weight, bias, mean, inverse, grad_x, grad_weight, grad_bias, images, pixels, channels, groups,     \
                           slope, threads);                                                                                                \
    }
NORMALISE(float32, float)
NORMALISE(bfloat16, Bfloat16)
}

#ifdef __AVX512BF16__

#include <immintrin.h>

namespace {

constexpr int TILE = 32, ROWS = 12;  // codewords and latents whose products are summed in registers at the same time

// Round a row and return the length of what rounding took away.
inline float rounded(const float* row, Bfloat16* result, int n) {
    float lost = 0;
#pragma omp simd reduction(+ : lost)
    for (int i = 0; i < n; ++i) {
        store(result + i, row[i]);
        lost += (row[i] - load(result[i])) * (row[i] - load(result[i]));
    }
    return std::sqrt(lost);
}

inline float product(const float* a, const float* b, int n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; ++i) sum += a[i] * b[i];
    return sum;
}

}  // namespace

// For each row of `latents` (rows, dimension) the index of the row c of `codebook` (count, dimension) with the largest z.c - |c|^2 / 2, which is
// the nearest; of equals the first. All are screened with products of bfloat16, whose error is at most |z - z'| |c| + |z'| |c - c'| (and that of
// float32 sums) where z', c' are rounded; those within twice the error of the best are compared in float32, whose answer is therefore given.
extern "C" void nearest(const float* latents, const float* codebook, int64_t* index, int64_t rows, int count, int dimension, int threads) {
    int blocks = (count + TILE - 1) / TILE, pairs = (dimension + 1) / 2;
    std::vector<Bfloat16> packed(size_t(blocks) * pairs * TILE * 2, 0);  // (blocks, pairs, TILE, 2)
    std::vector<float> halves(size_t(blocks) * TILE, INFINITY);
    std::vector<Bfloat16> short_codeword(dimension);
    float longest = 0, most_lost = 0;
    for (int k = 0; k < count; ++k) {
        const float* codeword = codebook + size_t(k) * dimension;
        most_lost = std::fmax(most_lost, rounded(codeword, short_codeword.data(), dimension));
        for (int d = 0; d < dimension; ++d) packed[((size_t(k / TILE) * pairs + d / 2) * TILE + k % TILE) * 2 + d % 2] = short_codeword[d];
        halves[k] = product(codeword, codeword, dimension) / 2;
        longest = std::fmax(longest, std::sqrt(2 * halves[k]));
    }
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> scores(size_t(ROWS) * blocks * TILE);
        std::vector<Bfloat16> short_rows(size_t(ROWS) * pairs * 2, 0);
#pragma omp for schedule(static)
        for (int64_t first = 0; first < rows; first += ROWS) {
            int present = int(rows - first < ROWS ? rows - first : ROWS);
            float lost[ROWS];
            for (int r = 0; r < present; ++r)
                lost[r] = rounded(latents + (first + r) * dimension, &short_rows[size_t(r) * pairs * 2], dimension);
            __m512 best[ROWS];
            for (int r = 0; r < ROWS; ++r) best[r] = _mm512_set1_ps(-INFINITY);
            for (int block = 0; block < blocks; ++block) {
                const Bfloat16* column = &packed[size_t(block) * pairs * TILE * 2];
                __m512 sum[ROWS][2];
                for (int r = 0; r < ROWS; ++r)
                    for (int half = 0; half < 2; ++half) sum[r][half] = -_mm512_loadu_ps(&halves[size_t(block) * TILE + 16 * half]);
                for (int pair = 0; pair < pairs; ++pair) {
                    __m512bh low = (__m512bh)_mm512_loadu_si512(column + pair * TILE * 2);
                    __m512bh high = (__m512bh)_mm512_loadu_si512(column + pair * TILE * 2 + TILE);
#pragma GCC unroll 12
                    for (int r = 0; r < ROWS; ++r) {
                        int both;
                        std::memcpy(&both, &short_rows[(size_t(r) * pairs + pair) * 2], 4);
                        __m512bh value = (__m512bh)_mm512_set1_epi32(both);
                        sum[r][0] = _mm512_dpbf16_ps(sum[r][0], low, value), sum[r][1] = _mm512_dpbf16_ps(sum[r][1], high, value);
                    }
                }
                for (int r = 0; r < ROWS; ++r)
                    for (int half = 0; half < 2; ++half) {
                        _mm512_storeu_ps(&scores[(size_t(r) * blocks + block) * TILE + 16 * half], sum[r][half]);
                        best[r] = _mm512_max_ps(best[r], sum[r][half]);
                    }
            }
            for (int r = 0; r < present; ++r) {
                const float *row = latents + (first + r) * dimension, *score = &scores[size_t(r) * blocks * TILE];
                float length = std::sqrt(product(row, row, dimension)), most = -INFINITY;
                float error = lost[r] * longest + (length + lost[r]) * most_lost + (dimension + 8) * 1.2e-7f * length * longest;
                __m512 least = _mm512_set1_ps(_mm512_reduce_max_ps(best[r]) - 2 * error);
                int found = 0;
                for (int k = 0; k < blocks * TILE; k += 16)
                    for (unsigned close = _mm512_cmp_ps_mask(_mm512_loadu_ps(score + k), least, _CMP_GE_OQ); close; close &= close - 1) {
                        int candidate = k + __builtin_ctz(close);
                        if (candidate >= count) break;
                        float exact = product(row, codebook + size_t(candidate) * dimension, dimension) - halves[candidate];
                        if (exact > most) most = exact, found = candidate;
                    }
                index[first + r] = found;
            }
        }
    }
}

#endif

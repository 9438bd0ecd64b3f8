// Two inner loops of the network on a CPU, for tensors whose channels lie last in memory: see kernels.py.
// Every sum runs over a fixed number of blocks of pixels, so that results do not depend on the number of threads.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int BLOCKS = 32;  // per image
constexpr int LANES = 16, TILE = 2 * LANES, ROWS = 8;
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES)));
constexpr Integers ASCENDING = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

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

// For each row of `latents` (rows, dimension) the index of the codeword c with the largest z.c - |c|^2 / 2, which is the nearest; of equals the
// first. `codewords` (blocks, dimension, TILE) holds TILE codewords at a time, the last block filled up; `halves` (blocks, TILE) their |c|^2 / 2.
// Nothing is kept of the distances but the best: ROWS x TILE sums live in registers.
void nearest(const float* latents, const float* codewords, const float* halves, int64_t* index, int64_t rows, int dimension, int blocks,
             int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t first = 0; first < rows; first += ROWS) {
        const float* row[ROWS];
        for (int r = 0; r < ROWS; ++r) row[r] = latents + (first + r < rows ? first + r : rows - 1) * dimension;
        Floats best[ROWS][2];
        Integers where[ROWS][2];
        for (int r = 0; r < ROWS; ++r)
            for (int half = 0; half < 2; ++half) best[r][half] = Floats{} - INFINITY, where[r][half] = Integers{};
        for (int block = 0; block < blocks; ++block) {
            const Floats* column = reinterpret_cast<const Floats*>(codewords + int64_t(block) * dimension * TILE);
            const Floats* half_norms = reinterpret_cast<const Floats*>(halves + block * TILE);
            Floats sum[ROWS][2];
            for (int r = 0; r < ROWS; ++r) sum[r][0] = -half_norms[0], sum[r][1] = -half_norms[1];
            for (int d = 0; d < dimension; ++d) {
                Floats low = column[2 * d], high = column[2 * d + 1];
#pragma GCC unroll 8
                for (int r = 0; r < ROWS; ++r) sum[r][0] += row[r][d] * low, sum[r][1] += row[r][d] * high;
            }
            for (int r = 0; r < ROWS; ++r)
                for (int half = 0; half < 2; ++half) {
                    Integers number = ASCENDING + (block * TILE + half * LANES), better = sum[r][half] > best[r][half];
                    best[r][half] = better ? sum[r][half] : best[r][half];
                    where[r][half] = better ? number : where[r][half];
                }
        }
        for (int r = 0; r < ROWS && first + r < rows; ++r) {
            float most = best[r][0][0];
            int found = where[r][0][0];
            for (int i = 1; i < TILE; ++i) {
                float value = best[r][i / LANES][i % LANES];
                int number = where[r][i / LANES][i % LANES];
                if (value > most || (value == most && number < found)) most = value, found = number;
            }
            index[first + r] = found;
        }
    }
}
}

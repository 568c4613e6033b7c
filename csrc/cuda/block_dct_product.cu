// Bytes to coefficients as one product of integer matrices on tensor cores.
//
// A coefficient is a sum over the 192 bytes of a block, out = sum_k w[c][k] (byte[k] - 128), with
// colour, means of 2x2 pixels and DCT folded into w: 128 less in each colour is 128 less in Y and
// nothing in Cb and Cr, and makes the bytes signed. Weights are integers q = w 2^e of 24 bits, as
// three signed digits of 8 bits, q = d[0] + 2^8 d[1] + 2^16 d[2]: the three sums of products of bytes
// are exact, so results are the same bits in any order of summation and on any device. The weight of
// green is what is left of the sum of the three colours: chroma of grey pixels is exactly 0.
//
// A thread block makes the digits of all channels once, in shared memory, and its warps then take
// tiles of 32 blocks in turns:
//
//   1  pixels of the tile from memory to registers, 16 bytes a load: 192 bytes a lane
//   2  for 8 channels at a time: 6 steps of 32 bytes x 3 digits x 2 groups of 16 blocks
//   3  digits together, scale, offset; a lane stores four neighbouring blocks of two channels
//
// A step is one of three parts of a row (a colour of planes, or 8 bytes of interleaved pixels) for
// four rows. Lane (g, t) = (lane / 4, lane % 4) reads rows t and t + 4 of blocks 4g to 4g + 3, which
// is what the fragments of mma.cuh ask for, if their rows and columns are numbered so:
//
//   row g of group m is block 4g + 2m, row g + 8 is block 4g + 2m + 1
//   columns 4t ... 4t + 3 are the first half of a part of row t, columns 4t + 16 ... the second
#include "mma.cuh"
#include "product.h"
#include "tile.cuh"

namespace freqops::cuda {

namespace {

constexpr int kParts = 3, kHalves = 2, kSteps = kParts * kHalves, kDigits = 3, kGroups = 2;
constexpr int kAtATime = 8;  // channels

// A thread block stays, one on a multiprocessor, so that weights are made once and lie there once.
// With few tiles it has fewer warps, and more multiprocessors get one.
constexpr int kMostWarps = 16, kFewestWarps = 4;

// Of 8 channels, [step][digit][lane]: b[0] and b[1] of mma.cuh.
using Strip = uint2[kSteps][kDigits][32];

// Channel i of the result: value = sum * scale + offset; sums of the highest digit begin at `start`.
struct alignas(16) Output {
  float scale, offset;
  int start, exists;
};

// What a thread block has in shared memory, for so many strips.
struct Shared {
  Strip* weights;
  Output* outputs;
  int* coefficient;  // of channel i, or -1
  float (*axis)[kBlock][kBlock];

  __device__ __forceinline__ Shared(char* memory, int strips)
      : weights(reinterpret_cast<Strip*>(memory)),
        outputs(reinterpret_cast<Output*>(weights + strips)),
        coefficient(reinterpret_cast<int*>(outputs + strips * kAtATime)),
        axis(reinterpret_cast<float (*)[kBlock][kBlock]>(coefficient + strips * kAtATime)) {}

  static unsigned bytes(int strips) {
    return unsigned(strips * (sizeof(Strip) + kAtATime * (sizeof(Output) + sizeof(int))) +
                    2 * kCoefficients * sizeof(float));
  }
};

FREQOPS_HOST_DEVICE constexpr int strips_of(int channels) {
  return (channels + kAtATime - 1) / kAtATime;
}

// Weights are multiples of 2^-exponent. Digits reach 127 (1 + 2^8 + 2^16) = 8 355 711; the largest
// weight is .587 x .4904^2 = .1412, or .1018 where one of the cosines is at most .3536, and .1203 of
// chroma.
__device__ __forceinline__ int exponent(int coefficient) {
  const int v = coefficient / kBlock % kBlock, u = coefficient % kBlock;
  return coefficient < kCoefficients && v % 4 != 0 && u % 4 != 0 ? 25 : 26;
}

// The integer weights of red, green and blue of a pixel.
__device__ __forceinline__ void quantise(const ProductParams& p, int component, float cosines,
                                         int (&q)[kComponents]) {
  const auto& m = p.matrix.m[component];
  // What grey pixels weigh: 1 in Y, 0 in Cb and Cr.
  const int sum = component == 0 ? int(round_even(cosines)) : 0;
  q[0] = int(round_even(m[0] * cosines));
  q[2] = int(round_even(m[2] * cosines));
  q[1] = sum - q[0] - q[2];
}

__device__ __forceinline__ void prepare_weights(const ProductParams& p, int strips,
                                                const Shared& shared) {
#pragma unroll 1
  for (int i = int(threadIdx.x); i < strips * kSteps * 32; i += int(blockDim.x)) {
    const int lane = i % 32, step = i / 32 % kSteps, strip = i / 32 / kSteps;
    const int g = lane / 4, t = lane % 4, part = step / kHalves;
    const int y = step % kHalves * 4 + t;
    const int c = shared.coefficient[strip * kAtATime + g];
    uint32_t word[kDigits][2] = {};
    if (c >= 0) {
      const int component = c / kCoefficients;
      const auto& cosine = shared.axis[component > 0];
      const float down = cosine[c / kBlock % kBlock][y] * float(1 << exponent(c));
#pragma unroll
      for (int b = 0; b < kBlock; ++b) {
        const int at = part * kBlock + b;  // in 24 bytes
        const int x = p.interleaved ? at / kComponents : b;
        const int colour = p.interleaved ? at - x * kComponents : part;
        int q[kComponents];
        quantise(p, component, down * cosine[c % kBlock][x], q);
        int rest = colour == 0 ? q[0] : colour == 1 ? q[1] : q[2];
#pragma unroll
        for (int d = 0; d < kDigits; ++d) {
          word[d][b / 4] |= uint32_t(rest & 255) << b % 4 * 8;
          rest = (rest + 128) >> 8;  // less the digit, which is -128 to 127
        }
      }
    }
#pragma unroll
    for (int d = 0; d < kDigits; ++d)
      shared.weights[strip][step][d][lane] = make_uint2(word[d][0], word[d][1]);
  }
}

__device__ __forceinline__ void prepare_outputs(const ProductParams& p, int strips,
                                                const Shared& shared) {
#pragma unroll 1
  for (int e = int(threadIdx.x); e < strips * kAtATime; e += int(blockDim.x)) {
    if (e >= p.channels.count) {
      shared.coefficient[e] = -1;
      shared.outputs[e] = {0, 0, 0, false};
      continue;
    }
    const int i = p.channels.position[e], c = p.channels.coefficient[e];
    const float std = p.std.data ? statistic<float>(p.std, p.channels, e) : 1.f;
    const float mean = p.mean.data ? statistic<float>(p.mean, p.channels, e) : 0.f;
    const float factor = 1 / std;
    // Without a level shift the first coefficient gets its 8 x 128 back, a multiple of the highest
    // digit.
    const int start = c == 0 ? (p.shift + 128) * kBlock * (1 << (exponent(0) - 16)) : 0;
    shared.coefficient[i] = c;
    shared.outputs[i] = {factor / float(1 << exponent(c)), -mean * factor, start, true};
  }
}

// The 8 bytes of a part of a row, from bytes at most `last` pixels to the right.
__device__ __forceinline__ void load_bytes(const ProductParams& p, const char* row, int part,
                                           int last, uint32_t (&word)[2]) {
  word[0] = word[1] = 0;
#pragma unroll
  for (int b = 0; b < kBlock; ++b) {
    const int at = part * kBlock + b;
    const int x = p.interleaved ? at / kComponents : b;
    const int colour = p.interleaved ? at - x * kComponents : part;
    const int64_t offset = colour * p.pictures.stride_c + smaller(x, last) * p.pictures.stride_w;
    word[b / 4] |= uint32_t(*reinterpret_cast<const uint8_t*>(row + offset)) << b % 4 * 8;
  }
}

// Fragments a of all steps: [step][group].
using Pixels = uint32_t[kSteps][kGroups][4];

// Row t + 4 half of four blocks from `row` on, 16 bytes at a time. Of planes a part is 32 bytes, 8 of each
// block; of interleaved pixels a block is 24 bytes, 8 of each part.
template <bool interleaved>
__device__ __forceinline__ void load_neighbours(const View& v, const char* row, int half,
                                                Pixels& pixels) {
#pragma unroll
  for (int i = 0; i < kParts * kNeighbours / 2; ++i) {
    const int64_t offset = interleaved ? i * 16 : i / 2 * v.stride_c + i % 2 * 16;
    const uint4 bytes = *reinterpret_cast<const uint4*>(row + offset);
    const uint32_t word[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int run = 2 * i + k;  // of 8 bytes
      const int block = interleaved ? run / kParts : run % kNeighbours;
      const int part = interleaved ? run % kParts : run / kNeighbours;
      pixels[part * kHalves + half][block / 2][block % 2] = word[2 * k];
      pixels[part * kHalves + half][block / 2][block % 2 + 2] = word[2 * k + 1];
    }
  }
}

// Rows t and t + 4 of blocks first to first + 3.
__device__ __forceinline__ void load_pixels(const ProductParams& p, uint32_t first, int t,
                                            Pixels& pixels) {
  const View& v = p.pictures;
  const char* const data = static_cast<const char*>(v.data);
  const int wide = p.interleaved ? kComponents * kBlock : kBlock;  // bytes of a row of a block
  if (p.access == RowAccess::kNeighbours) {
    const Place at = place(smaller(first, p.grid.blocks - kNeighbours), p.grid);
    const char* const blocks = data + (at.picture * v.stride_n + int64_t(at.column) * wide);
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      const int y = smaller(int(at.row) * kBlock + half * 4 + t, int(v.height) - 1);
      const char* const row = blocks + y * v.stride_h;
      if (p.interleaved) {
        load_neighbours<true>(v, row, half, pixels);
      } else {
        load_neighbours<false>(v, row, half, pixels);
      }
    }
    return;
  }
#pragma unroll
  for (int block = 0; block < kNeighbours; ++block) {
    const Place at = place(smaller(first + block, p.grid.blocks - 1), p.grid);
    const char* const corner = data + (at.picture * v.stride_n + int64_t(at.column) * wide);
    const int last = int(v.width) - 1 - int(at.column) * kBlock;
    const bool whole = p.access == RowAccess::kBlocks && last >= kBlock - 1;
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      const int y = smaller(int(at.row) * kBlock + half * 4 + t, int(v.height) - 1);
      const char* const row = corner + y * v.stride_h;
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        uint32_t word[2];
        if (whole) {
          const int64_t offset = p.interleaved ? int64_t(part) * kBlock : part * v.stride_c;
          const uint2 bytes = *reinterpret_cast<const uint2*>(row + offset);
          word[0] = bytes.x;
          word[1] = bytes.y;
        } else {
          load_bytes(p, row, part, last, word);
        }
        pixels[part * kHalves + half][block / 2][block % 2] = word[0];
        pixels[part * kHalves + half][block / 2][block % 2 + 2] = word[1];
      }
    }
  }
}

// Sums of the three digits, lowest first, as one number: the lower two stay below 2^31.
__device__ __forceinline__ float together(int low, int middle, int high) {
  return float(high) * 65536.f + float(middle * 256 + low);
}

template <class result_t>
struct alignas(4 * sizeof(result_t)) Four {
  result_t x[4];
};

template <class result_t>
struct alignas(2 * sizeof(result_t)) Two {
  result_t x[2];
};

// values[channel][block]: two neighbouring channels of four neighbouring blocks.
template <class result_t>
__device__ __forceinline__ void store_results(const ProductParams& p, uint32_t first, int channel,
                                              bool both, const float (&values)[2][kNeighbours]) {
  const int64_t area = p.grid.area.divisor, count = p.channels.count;
  result_t* const result = static_cast<result_t*>(p.result);
  if (!p.channels_last && p.neighbours) {
    if (first >= p.grid.blocks) return;
    const uint32_t picture = quotient(first, p.grid.area);
    result_t* at = result + ((picture * count + channel) * area + (first - picture * area));
#pragma unroll
    for (int c = 0; c < 2; ++c, at += area) {
      if (c == 1 && !both) return;
      Four<result_t> four;
#pragma unroll
      for (int k = 0; k < kNeighbours; ++k) four.x[k] = Store<result_t, float>::value(values[c][k]);
      *reinterpret_cast<Four<result_t>*>(at) = four;
    }
    return;
  }
#pragma unroll
  for (int k = 0; k < kNeighbours; ++k) {
    if (first + k >= p.grid.blocks) return;
    const result_t x = Store<result_t, float>::value(values[0][k]);
    const result_t y = Store<result_t, float>::value(values[1][k]);
    if (p.channels_last) {
      result_t* const at = result + ((first + k) * count + channel);
      if (both && p.neighbours) {
        *reinterpret_cast<Two<result_t>*>(at) = {{x, y}};
      } else {
        at[0] = x;
        if (both) at[1] = y;
      }
    } else {
      const uint32_t picture = quotient(first + k, p.grid.area);
      result_t* const at =
          result + ((picture * count + channel) * area + (first + k - picture * area));
      at[0] = x;
      if (both) at[area] = y;
    }
  }
}

template <class result_t>
__global__ void __launch_bounds__(32 * kMostWarps, 1)
    product_kernel(const __grid_constant__ ProductParams p) {
  const int thread = int(threadIdx.x), lane = thread % 32, g = lane / 4, t = lane % 4;
  const int strips = strips_of(p.channels.count);
  const Shared shared(dynamic_shared(), strips);
  if (thread < 2 * kCoefficients)
    shared.axis[thread / kCoefficients][thread / kBlock % kBlock][thread % kBlock] =
        p.axis[thread / kCoefficients][thread / kBlock % kBlock][thread % kBlock];
  prepare_outputs(p, strips, shared);
  __syncthreads();
  prepare_weights(p, strips, shared);
  __syncthreads();

  const uint32_t tiles = (p.grid.blocks + kWarpBlocks - 1) / kWarpBlocks;
  const uint32_t warps = blockDim.x / 32;
#pragma unroll 1
  for (uint32_t tile = blockIdx.x * warps + thread / 32; tile < tiles; tile += gridDim.x * warps) {
    const uint32_t first = tile * kWarpBlocks + g * kNeighbours;
    Pixels pixels;
    load_pixels(p, first, t, pixels);
    // Signed: less 128 each. This also moves the words to where the products want them, once: as they
    // are loaded, compilers would copy them for each strip.
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
#pragma unroll
      for (int m = 0; m < kGroups; ++m)
#pragma unroll
        for (int k = 0; k < 4; ++k) pixels[step][m][k] ^= 0x80808080u;
#pragma unroll 1
    for (int strip = 0; strip < strips; ++strip) {
      __syncwarp();  // lanes without a channel or a block have gone ahead
      const int channel = strip * kAtATime + 2 * t;
      const Output a = shared.outputs[channel], b = shared.outputs[channel + 1];
      int sum[kDigits][kGroups][4] = {};
#pragma unroll
      for (int m = 0; m < kGroups; ++m) {
        sum[kDigits - 1][m][0] = sum[kDigits - 1][m][2] = a.start;
        sum[kDigits - 1][m][1] = sum[kDigits - 1][m][3] = b.start;
      }
#pragma unroll
      for (int step = 0; step < kSteps; ++step)
#pragma unroll
        for (int d = 0; d < kDigits; ++d) {
          const uint2 pair = shared.weights[strip][step][d][lane];
          const uint32_t digits[2] = {pair.x, pair.y};
#pragma unroll
          for (int m = 0; m < kGroups; ++m) multiply_add(sum[d][m], pixels[step][m], digits);
        }
      if (!a.exists) continue;
      float values[2][kNeighbours];
#pragma unroll
      for (int k = 0; k < kNeighbours; ++k) {
        const int m = k / 2, row = k % 2 * 2;
        values[0][k] =
            together(sum[0][m][row], sum[1][m][row], sum[2][m][row]) * a.scale + a.offset;
        values[1][k] =
            together(sum[0][m][row + 1], sum[1][m][row + 1], sum[2][m][row + 1]) * b.scale +
            b.offset;
      }
      store_results<result_t>(p, first, channel, b.exists, values);
    }
  }
}

template <class result_t>
cudaError_t launch_kernel(const ProductParams& params, cudaStream_t stream) {
  int processors = 0;
  const cudaError_t error = device_attribute(&processors, cudaDevAttrMultiProcessorCount);
  if (error != cudaSuccess) return error;
  const int64_t tiles = (int64_t(params.grid.blocks) + kWarpBlocks - 1) / kWarpBlocks;
  const int64_t each = (tiles + processors - 1) / processors;
  const int64_t warps = each < kFewestWarps ? kFewestWarps : each < kMostWarps ? each : kMostWarps;
  const int64_t blocks = (tiles + warps - 1) / warps;
  return launch(product_kernel<result_t>, unsigned(blocks < processors ? blocks : processors),
                unsigned(32 * warps), stream, params,
                Shared::bytes(strips_of(params.channels.count)));
}

}  // namespace

bool product_fits(int channels) {
  int most = 0, major = 0;
  return device_attribute(&major, cudaDevAttrComputeCapabilityMajor) == cudaSuccess &&
         device_attribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin) == cudaSuccess &&
         major >= 8 && Shared::bytes(strips_of(channels)) <= unsigned(most);
}

cudaError_t launch_product(const ProductParams& params, cudaStream_t stream) {
  switch (params.result_type) {
    case Type::kHalf: return launch_kernel<__half>(params, stream);
    case Type::kBfloat16: return launch_kernel<__nv_bfloat16>(params, stream);
    default: return launch_kernel<float>(params, stream);
  }
}

}  // namespace freqops::cuda

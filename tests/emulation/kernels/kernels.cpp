// Small kernels that are right (`sound`) or wrong in one way each; test_cuda_on_host.py runs them by
// name. Exit status 0: ran and gave the right result, 1: wrong result, 2: refused by cuda_on_host.h.
#include <cstdio>
#include <string>
#include <vector>

#include "cuda_on_host.h"

#include "cuda/mma.cuh"
#include "cuda/tile.cuh"

namespace {

constexpr int kThreads = 64;

struct Params {
  const int* in;  // [blocks * kThreads]
  int* out;       // [blocks * kThreads]: in[i - 1] + in[i + 1] in a ring of each block's elements
};

enum class Fault {
  kNone,
  kNoBarrier,        // neighbours' values are read before they are there
  kBarrierInBranch,  // half of the threads wait at a barrier, half at another
  kReturnBefore,     // some threads never reach the barrier
  kMaskOmitsCaller,  // a shuffle by a lane that its mask leaves out
  kLaneStaysAway,    // a shuffle that waits for a lane which does not take part
  kSharedOutOfBounds,
  kGlobalOutOfBounds,
};

template <Fault fault>
__global__ void __launch_bounds__(kThreads) ring_kernel(const __grid_constant__ Params p) {
  __shared__ int ring[kThreads];
  const int t = int(threadIdx.x), at = int(blockIdx.x * kThreads) + t;
  if (fault == Fault::kReturnBefore && t == 5) return;
  ring[t] = p.in[at];
  if (fault == Fault::kBarrierInBranch) {
    if (t < kThreads / 2) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  } else if (fault != Fault::kNoBarrier) {
    __syncthreads();
  }
  const int before = t - 1, after = t + 1;
  const bool wraps = fault != Fault::kSharedOutOfBounds;
  int sum = ring[wraps ? (before + kThreads) % kThreads : before + 1] +
            ring[wraps ? after % kThreads : after];
  if (fault == Fault::kMaskOmitsCaller) sum = __shfl_xor_sync(0xfffffffeu, sum, 0u);
  if (fault == Fault::kLaneStaysAway && t % 32 != 7) sum = __shfl_sync(~0u, sum, t % 32u);
  p.out[fault == Fault::kGlobalOutOfBounds ? at + 1 : at] = sum;
}

// Shuffles give what shared memory gives: the sum over a warp, neighbours, any lane; exited lanes
// and odd block sizes do not disturb a barrier of the rest.
__global__ void shuffle_kernel(const __grid_constant__ Params p) {
  const unsigned t = threadIdx.x, lane = t % 32;
  const int x = p.in[t];
  int sum = x;
  for (unsigned bit = 1; bit < 32; bit *= 2) sum += __shfl_xor_sync(~0u, sum, bit);
  const int up = __shfl_up_sync(~0u, x, 1u), down = __shfl_down_sync(~0u, x, 2u);
  const int any = __shfl_sync(~0u, x, 31 - lane);
  p.out[t] = sum + 7 * up + 11 * down + 13 * any;
}

struct MatrixParams {
  const int8_t* a;  // [16][32]
  const int8_t* b;  // [32][8]
  int* sum;         // [16][8], added to
};

// The fragments element by element, as the PTX manual numbers them: element i of a lies in row g where
// i % 8 < 4, else in row g + 8, and in column 4t + i % 4, plus 16 for i >= 8.
__global__ void matrix_kernel(const __grid_constant__ MatrixParams p) {
  const int lane = int(threadIdx.x), g = lane / 4, t = lane % 4;
  uint32_t a[4] = {}, b[2] = {};
  for (int i = 0; i < 16; ++i) {
    const int row = i % 8 < 4 ? g : g + 8, column = 4 * t + i % 4 + (i >= 8 ? 16 : 0);
    a[i / 4] |= uint32_t(uint8_t(p.a[row * 32 + column])) << i % 4 * 8;
  }
  for (int i = 0; i < 8; ++i) {
    const int row = 4 * t + i % 4 + (i >= 4 ? 16 : 0);
    b[i / 4] |= uint32_t(uint8_t(p.b[row * 8 + g])) << i % 4 * 8;
  }
  int sum[4];
  for (int i = 0; i < 4; ++i) sum[i] = p.sum[(i < 2 ? g : g + 8) * 8 + 2 * t + i % 2];
  freqops::cuda::multiply_add(sum, a, b);
  freqops::cuda::multiply_add(sum, a, b);  // at once, while neighbours may still read
  for (int i = 0; i < 4; ++i) p.sum[(i < 2 ? g : g + 8) * 8 + 2 * t + i % 2] = sum[i];
}

std::vector<int> numbers(int n) {
  std::vector<int> x(n);
  for (int i = 0; i < n; ++i) x[i] = i * i % 101 + 1;
  return x;
}

template <Fault fault>
int run_ring() {
  constexpr int kBlocks = 2;  // threads run upwards in the first, downwards in the second
  const std::vector<int> in = numbers(kBlocks * kThreads);
  std::vector<int> out(in.size());
  launch(ring_kernel<fault>, kBlocks, kThreads, nullptr, Params{in.data(), out.data()});
  int wrong[kBlocks] = {};
  for (int i = 0; i < kBlocks * kThreads; ++i) {
    const int block = i / kThreads * kThreads, t = i % kThreads;
    const int want = in[block + (t + kThreads - 1) % kThreads] + in[block + (t + 1) % kThreads];
    wrong[i / kThreads] += out[i] != want;
  }
  std::printf("wrong: %d %d\n", wrong[0], wrong[1]);
  return wrong[0] + wrong[1] != 0;
}

int run_shuffles() {
  const std::vector<int> in = numbers(64);
  std::vector<int> out(in.size());
  launch(shuffle_kernel, 1, 64, nullptr, Params{in.data(), out.data()});
  int wrong = 0;
  for (int t = 0; t < 64; ++t) {
    const int first = t / 32 * 32, lane = t % 32;
    int want = 0;
    for (int i = 0; i < 32; ++i) want += in[first + i];
    want +=
        7 * in[lane > 0 ? t - 1 : t] + 11 * in[lane < 30 ? t + 2 : t] + 13 * in[first + 31 - lane];
    wrong += out[t] != want;
  }
  return wrong != 0;
}

int run_matrices() {
  std::vector<int8_t> a(16 * 32);
  std::vector<int8_t> b(32 * 8);
  std::vector<int> sum = numbers(16 * 8), want = sum;
  for (int i = 0; i < 16 * 32; ++i) a[i] = int8_t(i * i % 257 * 7);
  for (int i = 0; i < 32 * 8; ++i) b[i] = int8_t(i * i % 263 * 5);
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 8; ++column)
      for (int k = 0; k < 32; ++k)
        want[row * 8 + column] += 2 * int(a[row * 32 + k]) * int(b[k * 8 + column]);
  launch(matrix_kernel, 1, 32, nullptr, MatrixParams{a.data(), b.data(), sum.data()});
  return sum != want;
}

// float32 from standard input; half and bfloat16 of each, and both back as float32, to the output.
int convert() {
  for (float x; std::fread(&x, sizeof x, 1, stdin) == 1;) {
    const __half half(x);
    const __nv_bfloat16 bfloat(x);
    const float back[2] = {float(half), float(bfloat)};
    std::fwrite(&half, sizeof half, 1, stdout);
    std::fwrite(&bfloat, sizeof bfloat, 1, stdout);
    std::fwrite(back, sizeof back, 1, stdout);
  }
  return 0;
}

// quotient() against the operator: every divisor up to 1000 and near powers of two, with numerators
// around each multiple that the sampling meets and at both ends of the range.
int divide() {
  std::vector<uint32_t> divisors;
  for (uint32_t d = 1; d <= 1000; ++d) divisors.push_back(d);
  for (uint32_t bit = 10; bit < 31; ++bit)
    for (uint32_t d = (1u << bit) - 2; d <= (1u << bit) + 2; ++d) divisors.push_back(d);
  divisors.push_back(0x7fffffff);
  constexpr uint64_t kEnd = uint64_t(1) << 31;
  int wrong = 0;
  for (const uint32_t d : divisors) {
    const auto divisor = freqops::cuda::Divisor::of(d);
    for (uint64_t i = 0; i <= 1000; ++i) {
      const uint64_t multiple = (kEnd - 1) / d * i / 1000 * d;
      for (uint64_t n = multiple - (multiple > 0); n <= multiple + 1 && n < kEnd; ++n)
        wrong += freqops::cuda::quotient(uint32_t(n), divisor) != n / d;
    }
    wrong += freqops::cuda::quotient(uint32_t(kEnd - 1), divisor) != (kEnd - 1) / d;
  }
  return wrong != 0;
}

int run(const std::string& name) {
  if (name == "sound") return run_ring<Fault::kNone>();
  if (name == "shuffles") return run_shuffles();
  if (name == "matrices") return run_matrices();
  if (name == "divide") return divide();
  if (name == "convert") return convert();
  if (name == "no_barrier") return run_ring<Fault::kNoBarrier>();
  if (name == "barrier_in_branch") return run_ring<Fault::kBarrierInBranch>();
  if (name == "return_before_barrier") return run_ring<Fault::kReturnBefore>();
  if (name == "mask_omits_caller") return run_ring<Fault::kMaskOmitsCaller>();
  if (name == "lane_stays_away") return run_ring<Fault::kLaneStaysAway>();
  if (name == "shared_out_of_bounds") return run_ring<Fault::kSharedOutOfBounds>();
  if (name == "global_out_of_bounds") return run_ring<Fault::kGlobalOutOfBounds>();
  return 3;
}

}  // namespace

int main(int, char** arguments) try {
  return run(arguments[1]);
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}

// The schemas: a contract with saved programs, changed only by adding an overload.
//
// D is the orthonormal 8x8 DCT-II of the YCbCr planes of RGB pictures, S the chroma smoothing, c the
// chosen channel numbers (component * 64 + v * 8 + u). Pictures are [N, 3, H, W] with any strides:
// uint8 in [0, 255] or floating point in [0, 1]; coefficients are [N, C, ceil(H/8), ceil(W/8)].
//
//   block_dct            out = ((D S ycbcr(images))[c] - mean) / std
//       mean, std        [C], or [192] read by channel number; float32 or float64, on images' device.
//                        Finite and std > 0, which the CPU checks
//       chroma           "4:4:4", "4:2:0", "dctnet";   rounding "none", "jpeg"
//       dtype            of the result: "float32", "float64", "float16", "bfloat16". A name, because
//                        AOTInductor of torch 2.10 and 2.11 hands an operator other numbers for a
//                        ScalarType than those that mean it
//       channels_last    the result's memory format
//       linear           the map's derivative: no level shift, no mean, no rounding
//   block_dct_backward   the transpose of block_dct(..., linear=True): coefficient to picture gradients
//   block_dct_mean       the mean of block_dct(..., rounding "none") over blocks, [N, C]: by linearity the
//                        DCT of the mean block. float64 for float64 pictures, else float32
//   block_dct_gated      block_dct(..., rounding "none") * gate[:, :, None, None], rounded once. Where a
//                        gate is 0, results are 0 whatever pixels hold; where it is NaN, so are they
//       gate             [N, C] floating point, finite or NaN
//   block_idct           RGB = ycbcr^-1(D^T (coefficients * std + mean)); channels absent from c count as
//                        their mean where mean has 192 entries, else as zero. dtype "uint8": rounded and
//                        clamped to [0, 255]; floating point: [0, 1] scale. Cropped to height x width
//       linear           the derivative: no level shift, no mean
//   block_idct_backward  the transpose of block_idct(..., linear=True)
//
// Coefficients as JPEG files hold them, onto one grid (csrc/axis_map.h has the arithmetic):
//
//   jpeg_gather          out = ((P X Q^T)[c] - mean) / std, [N, C, rows, columns]
//       y                [N, by, bx, 64] int16, of luma, last dimension v * 8 + u without gaps, else any strides
//       cb, cr           [N, ceil(by / fy), ceil(bx / fx), 64] likewise; None where subsampling is "gray"
//       tables           [K, 64] or [N, K, 64] int32: what the values are multiplied by; K = 3, for "gray" 1.
//                        None is 1
//       subsampling      "4:4:4" fy, fx = 1, 1; "4:2:2" 1, 2; "4:4:0" 2, 1; "4:2:0" 2, 2; "4:1:1" 1, 4; "gray"
//       scale_y, scale_x eighths, each in [1, 16], one or more, applied one after the other
//       top, left, rows, columns   the part of the scaled grid that is wanted, in blocks
//       flip             that part mirrored left to right
//       dtype            of the result: "float32", "float16", "bfloat16"
//
// The channel gate: z = logits[..., 1] - logits[..., 0] + noise, p = sigmoid(z / tau), gate = z > 0
// (hard) or p; both have the derivative of p. Where a gate is 0, results are 0 whatever x holds.
// Where z is NaN, so are they.
//
//   gumbel_gate          y = x * gate, in x's dtype and in channels_last where x is; and the gate, [N, C]
//                        in that of logits
//       x                [N, C, H, W] floating point;   logits [N, C, 2] as [off, on]
//       noise            [N, C] logistic, None is 0;    tau 0-dim float32 or float64, None is 1. A tensor:
//                        a float would be a constant to torch.compile and to CUDA graphs
//   gumbel_gate_backward grad_x = grad_y * gate, and grad_logits = [-g, g], [N, C, 2], with
//                        g = p (1 - p) / tau * (grad_gate + sum over pixels of grad_y x).
//                        Results that are not wanted are empty, [0]: grad_x where need_x is false,
//                        grad_logits where x is None
#pragma once

#define FREQOPS_DEFINE_SCHEMAS(m)                                                                \
  m.def(                                                                                         \
      "block_dct(Tensor images, int[] channels, Tensor? mean, Tensor? std, str chroma, "         \
      "str rounding, str dtype, bool channels_last=False, bool linear=False) -> Tensor");        \
  m.def(                                                                                         \
      "block_dct_backward(Tensor grad, int[] channels, Tensor? std, str chroma, SymInt height, " \
      "SymInt width, str dtype) -> Tensor");                                                     \
  m.def(                                                                                         \
      "block_dct_mean(Tensor images, int[] channels, Tensor? mean, Tensor? std, str chroma) -> " \
      "Tensor");                                                                                 \
  m.def(                                                                                         \
      "block_dct_gated(Tensor images, Tensor gate, int[] channels, Tensor? mean, Tensor? std, "  \
      "str chroma, str dtype, bool channels_last=False) -> Tensor");                             \
  m.def(                                                                                         \
      "block_idct(Tensor coefficients, int[] channels, Tensor? mean, Tensor? std, "              \
      "SymInt height, SymInt width, str dtype, bool linear=False) -> Tensor");                   \
  m.def(                                                                                         \
      "block_idct_backward(Tensor grad, int[] channels, Tensor? std, str dtype) -> "             \
      "Tensor");                                                                                 \
  m.def(                                                                                         \
      "jpeg_gather(Tensor y, Tensor? cb, Tensor? cr, Tensor? tables, int[] channels, "           \
      "Tensor? mean, Tensor? std, str subsampling, int[] scale_y, int[] scale_x, SymInt top, "   \
      "SymInt left, SymInt rows, SymInt columns, bool flip, str dtype, "                         \
      "bool channels_last=False) -> Tensor");                                                    \
  m.def(                                                                                         \
      "gumbel_gate(Tensor x, Tensor logits, Tensor? noise, Tensor? tau, bool hard) -> (Tensor, " \
      "Tensor)");                                                                                \
  m.def(                                                                                         \
      "gumbel_gate_backward(Tensor grad_y, Tensor? grad_gate, Tensor? x, Tensor logits, "        \
      "Tensor? noise, Tensor? tau, bool hard, bool need_x) -> (Tensor, Tensor)");

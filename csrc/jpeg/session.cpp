#include "session.h"

#include <jerror.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstring>

#include "messages.h"

namespace freqops::jpeg {
namespace {

Session* session_of(j_common_ptr cinfo) { return static_cast<Session*>(cinfo->client_data); }
Session* session_of(j_decompress_ptr cinfo) { return static_cast<Session*>(cinfo->client_data); }

// --- Errors --------------------------------------------------------------------------------------

// The processes of T.81 that libjpeg does not know, by the marker of the frame header.
const char* process_name(int marker) {
  switch (marker) {
    case 0xc3: return "lossless JPEG";
    case 0xcb: return "lossless arithmetic JPEG";
    case 0xc5:
    case 0xc6:
    case 0xc7:
    case 0xcd:
    case 0xce:
    case 0xcf: return "hierarchical JPEG";
    default: return nullptr;
  }
}

[[noreturn]] void fail_unsupported(Session* session, const char* kind) {
  std::snprintf(session->reason, sizeof(session->reason), "%s is not read", kind);
  session->fail(Outcome::kUnsupported);
}

void error_exit(j_common_ptr cinfo) {
  Session* session = session_of(cinfo);
  // A table between scans that the end of the file cuts off: tolerated, as the end itself.
  if (session->ended && !session->in_headers) session->fail(Outcome::kRead);
  const int code = session->errors.msg_code;
  const int value = session->errors.msg_parm.i[0];
  if (code == JERR_OUT_OF_MEMORY) {
    std::snprintf(session->reason, sizeof(session->reason), "no memory for the decoder's tables");
    session->fail(Outcome::kNoMemory);
  }
  if (code == JERR_SOF_UNSUPPORTED && process_name(value) != nullptr) {
    fail_unsupported(session, process_name(value));
  }
#if JPEG_LIB_VERSION < 70
  if (code == JERR_ARITH_NOTIMPL) {
    fail_unsupported(session, "arithmetic coding, which this libjpeg-turbo is built without,");
  }
#endif
  describe(session->errors, session->reason, sizeof(session->reason));
  session->fail(Outcome::kBroken);
}

// The frame header has been read, nothing is allocated yet.
void check_frame(Session* session, int marker) {
  const jpeg_decompress_struct& cinfo = session->cinfo;
  if (process_name(marker) != nullptr) fail_unsupported(session, process_name(marker));
  if (cinfo.data_precision == 12 || cinfo.data_precision == 16) {
    fail_unsupported(session, cinfo.data_precision == 12 ? "12-bit JPEG" : "16-bit JPEG");
  }
  const uint64_t pixels = uint64_t{cinfo.image_width} * cinfo.image_height;
  const uint64_t limit = session->options.max_pixels;
  if (limit != 0 && pixels > limit) {
    std::snprintf(session->reason, sizeof(session->reason),
                  "its header says %u x %u = %llu pixels (width x height), more than max_pixels = "
                  "%llu; a higher max_pixels reads it",
                  cinfo.image_width, cinfo.image_height, static_cast<unsigned long long>(pixels),
                  static_cast<unsigned long long>(limit));
    session->fail(Outcome::kBroken);
  }
}

// level -1: a warning, data are damaged; 0 and above: traces, of which one is useful.
void emit_message(j_common_ptr cinfo, int level) {
  Session* session = session_of(cinfo);
  if (level >= 0) {
    if (session->errors.msg_code == JTRC_SOF) check_frame(session, session->errors.msg_parm.i[0]);
    return;
  }
  if (!session->options.tolerant) {
    describe(session->errors, session->reason, sizeof(session->reason));
    session->fail(Outcome::kDamaged);
  }
  if (session->errors.num_warnings++ == 0) {
    describe(session->errors, session->warning, sizeof(session->warning));
  }
}

// libjpeg itself calls neither of these two.
void output_message(j_common_ptr) {}
void format_message(j_common_ptr, char* text) { text[0] = '\0'; }

void reset_errors(j_common_ptr cinfo) {
  cinfo->err->num_warnings = 0;
  cinfo->err->msg_code = 0;
}

// --- The source ----------------------------------------------------------------------------------

void init_source(j_decompress_ptr) {}
void term_source(j_decompress_ptr) {}

// Called for what lies beyond the last byte: the file is truncated. libjpeg wants bytes all the
// same; an end-of-image marker makes it stop soonest.
boolean fill_input_buffer(j_decompress_ptr cinfo) {
  static const JOCTET kEnd[] = {0xff, JPEG_EOI};
  Session* session = session_of(cinfo);
  session->ended = true;
  if (session->in_headers) {
    std::snprintf(session->reason, sizeof(session->reason),
                  "Premature end of JPEG file (the file is truncated before its first scan)");
    session->fail(Outcome::kBroken);
  }
  session->errors.msg_code = JWRN_JPEG_EOF;
  emit_message(reinterpret_cast<j_common_ptr>(cinfo), -1);
  session->source.next_input_byte = kEnd;
  session->source.bytes_in_buffer = sizeof(kEnd);
  return TRUE;
}

void skip_input_data(j_decompress_ptr cinfo, long count) {
  jpeg_source_mgr* source = cinfo->src;
  if (count <= 0) return;
  if (static_cast<size_t>(count) > source->bytes_in_buffer) {
    fill_input_buffer(cinfo);  // a segment of markers ends beyond the file: so does the file
    return;
  }
  source->next_input_byte += count;
  source->bytes_in_buffer -= static_cast<size_t>(count);
}

// --- Limits --------------------------------------------------------------------------------------

// Called before each row of MCUs and each scan.
void monitor(j_common_ptr cinfo) {
  Session* session = session_of(cinfo);
  if (session->ended) session->fail(Outcome::kRead);  // tolerated: nothing more will come
  const int scans = session->cinfo.input_scan_number;
  if (scans <= kManyScans) return;
  int64_t blocks = 0;
  for (int i = 0; i < session->array_count; ++i)
    blocks += int64_t{session->arrays[i].row_count} * session->arrays[i].row_length;
  if (scans > kMaxScans || scans * blocks > kMaxPasses) {
    std::snprintf(session->reason, sizeof(session->reason),
                  "it has more than %d scans, which no encoder writes", scans - 1);
    session->fail(Outcome::kBroken);
  }
}

// --- Coefficient memory --------------------------------------------------------------------------

jvirt_barray_ptr request_array(j_common_ptr cinfo, int, boolean, JDIMENSION row_length,
                               JDIMENSION row_count, JDIMENSION) {
  Session* session = session_of(cinfo);
  jvirt_barray_control* array = &session->arrays[session->array_count++];  // <= kMaxPlanes
  array->row_length = row_length;
  array->row_count = row_count;
  return array;
}

// Of fresh memory every page is a fault, which in large pictures takes as long as the decoding:
// 2 MB at a time are fewer of them. A wish, no more: the kernel may say no.
void use_huge_pages(void* memory, size_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr size_t kHuge = 2 << 20;
  constexpr uintptr_t kPage = 4096;
  if (memory == nullptr || bytes < 2 * kHuge) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + kPage - 1) / kPage * kPage;
  const uintptr_t end = reinterpret_cast<uintptr_t>(memory) + bytes;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  static_cast<void>(memory), static_cast<void>(bytes);
#endif
}

// Zeros, as the entropy decoder expects; from calloc, so that pages of a large picture cost nothing
// until a scan reaches them.
void realize_arrays(j_common_ptr cinfo) {
  Session* session = session_of(cinfo);
  for (int i = 0; i < session->array_count; ++i) {
    jvirt_barray_control* array = &session->arrays[i];
    if (array->memory != nullptr) continue;
    const size_t row_bytes = array->row_length * sizeof(JBLOCK);
    array->memory = static_cast<int16_t*>(std::calloc(array->row_count, row_bytes));
    use_huge_pages(array->memory, array->row_count * row_bytes);
    array->rows = static_cast<JBLOCKROW*>(std::calloc(array->row_count, sizeof(JBLOCKROW)));
    if (array->memory == nullptr || array->rows == nullptr) {
      std::snprintf(session->reason, sizeof(session->reason),
                    "no memory for the coefficients of %u x %u pixels (width x height)",
                    session->frame.width, session->frame.height);
      session->fail(Outcome::kNoMemory);
    }
    for (size_t row = 0; row < array->row_count; ++row) {
      array->rows[row] = reinterpret_cast<JBLOCKROW>(array->memory) + row * array->row_length;
    }
  }
  session->realize_others(cinfo);
}

JBLOCKARRAY access_array(j_common_ptr cinfo, jvirt_barray_ptr array, JDIMENSION first,
                         JDIMENSION count, boolean) {
  if (first > array->row_count || count > array->row_count - first) {
    cinfo->err->msg_code = JERR_BAD_VIRTUAL_ACCESS;
    cinfo->err->error_exit(cinfo);
  }
  return array->rows + first;
}

// --- The run -------------------------------------------------------------------------------------

void check_color(Session* session) {
  switch (session->cinfo.jpeg_color_space) {
    case JCS_GRAYSCALE:
    case JCS_YCbCr: return;
    case JCS_RGB: fail_unsupported(session, "RGB JPEG (red, green and blue as they are)");
    case JCS_CMYK: fail_unsupported(session, "CMYK JPEG");
    case JCS_YCCK: fail_unsupported(session, "YCCK JPEG");
    default: break;
  }
  std::snprintf(session->reason, sizeof(session->reason),
                "JPEG of %d components is not read, only gray and YCbCr",
                session->cinfo.num_components);
  session->fail(Outcome::kUnsupported);
}

// Bits that are missing read as zeros, which decode to something. A scan coded with Huffman's codes
// has at least a byte, so where there is a marker at once, or the end, nothing can be decoded.
void check_begun(Session* session) {
  const JOCTET* next = session->source.next_input_byte;
  const size_t left = session->source.bytes_in_buffer;
  const bool empty = left == 0 || (next[0] == 0xff && (left == 1 || next[1] != 0));
  if (!empty || session->cinfo.arith_code) return;
  std::snprintf(session->reason, sizeof(session->reason),
                "no coefficient could be decoded: the first scan is empty");
  session->fail(Outcome::kBroken);
}

// Of one component there is one plane; of three, chroma is a whole fraction of luma in each
// direction. Sampling factors count as ratios alone: 2x2, 2x2, 2x2 is 4:4:4.
void check_sampling(Session* session) {
  const jpeg_decompress_struct& cinfo = session->cinfo;
  if (cinfo.num_components == 1 || subsampling_name(cinfo) != nullptr) return;
  const jpeg_component_info* c = cinfo.comp_info;
  std::snprintf(session->reason, sizeof(session->reason),
                "JPEG with the sampling factors %dx%d, %dx%d, %dx%d is not read, only 4:4:4, "
                "4:2:2, 4:4:0, 4:2:0, 4:1:1 and gray",
                c[0].h_samp_factor, c[0].v_samp_factor, c[1].h_samp_factor, c[1].v_samp_factor,
                c[2].h_samp_factor, c[2].v_samp_factor);
  session->fail(Outcome::kUnsupported);
}

}  // namespace

Session::Session(const uint8_t* data, size_t size, const Options& given) : options(given) {
  std::memset(&cinfo, 0, sizeof(cinfo));
  cinfo.err = &errors;
  cinfo.client_data = this;
  // Not jpeg_std_error, which brings stderr: a library made for executables cannot bind that within
  // a module.
  errors = {};
  errors.error_exit = error_exit;
  errors.emit_message = emit_message;
  errors.output_message = output_message;
  errors.format_message = format_message;
  errors.reset_error_mgr = reset_errors;

  source = {};
  source.next_input_byte = data;
  source.bytes_in_buffer = size;
  source.init_source = init_source;
  source.fill_input_buffer = fill_input_buffer;
  source.skip_input_data = skip_input_data;
  source.resync_to_restart = jpeg_resync_to_restart;
  source.term_source = term_source;

  progress = {};
  progress.progress_monitor = monitor;
}

Session::~Session() {
  jpeg_destroy_decompress(&cinfo);
  for (jvirt_barray_control& array : arrays) {
    std::free(array.memory);
    std::free(array.rows);
  }
}

void Session::fail(Outcome why) {
  outcome = why;
  std::longjmp(leave, 1);
}

Outcome decode(Session* session) {
  if (setjmp(session->leave) != 0) return session->outcome;
  jpeg_decompress_struct* cinfo = &session->cinfo;
  jpeg_create_decompress(cinfo);
  cinfo->src = &session->source;
  cinfo->progress = &session->progress;
  session->realize_others = cinfo->mem->realize_virt_arrays;
  cinfo->mem->request_virt_barray = request_array;
  cinfo->mem->realize_virt_arrays = realize_arrays;
  cinfo->mem->access_virt_barray = access_array;

  jpeg_save_markers(cinfo, JPEG_APP0 + 1, 0xffff);  // EXIF
  jpeg_read_header(cinfo, TRUE);
  check_color(session);
  check_sampling(session);
  check_begun(session);
  session->frame = {cinfo->num_components, cinfo->image_height, cinfo->image_width,
                    cinfo->progressive_mode != 0, subsampling_name(*cinfo)};
  session->in_headers = false;
  jpeg_read_coefficients(cinfo);
  return Outcome::kRead;
}

const char* subsampling_name(const jpeg_decompress_struct& cinfo) {
  if (cinfo.num_components == 1) return "gray";
  const jpeg_component_info* c = cinfo.comp_info;
  const int h = c[1].h_samp_factor, v = c[1].v_samp_factor;
  const bool whole = c[0].h_samp_factor % h == 0 && c[0].v_samp_factor % v == 0;
  if (!whole || c[2].h_samp_factor != h || c[2].v_samp_factor != v) return nullptr;
  switch (c[0].v_samp_factor / v * 10 + c[0].h_samp_factor / h) {
    case 11: return "4:4:4";
    case 12: return "4:2:2";
    case 21: return "4:4:0";
    case 22: return "4:2:0";
    case 14: return "4:1:1";
    default: return nullptr;
  }
}

}  // namespace freqops::jpeg

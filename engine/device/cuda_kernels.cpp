#include <weft/kernels/cuda/activations.hpp>
#include <weft/kernels/cuda/attention_decode.hpp>
#include <weft/kernels/cuda/attention_prefill.hpp>
#include <weft/kernels/cuda/band_rows.hpp>
#include <weft/kernels/cuda/checksums.hpp>
#include <weft/kernels/cuda/rotate_scatter.hpp>
#include <weft/kernels/cuda/row_encoding.hpp>

#include "device_kernels.hpp"
#include "open_cuda.hpp"
#include <cublasLt.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

namespace weft::engine {

namespace {

// Of the warps that a multiprocessor has, those that registers leave room for in a decode step's attention:
// of 24 for groups of one query head, 8 for groups of eight, what is in between.
constexpr int decode_warps = 16;

// Products share it, one stream a device.
constexpr std::size_t workspace_bytes = std::size_t{32} << 20U;

template <class Handle, cublasStatus_t (*Destroy)(Handle)>
struct destroyer {
  void operator()(Handle handle) const { Destroy(handle); }
};
template <class Handle, cublasStatus_t (*Destroy)(Handle)>
using unique_handle = std::unique_ptr<std::remove_pointer_t<Handle>, destroyer<Handle, Destroy>>;

using blas_handle = unique_handle<cublasLtHandle_t, cublasLtDestroy>;
using operation_handle = unique_handle<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using layout_handle = unique_handle<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using preference_handle = unique_handle<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

cudaDataType_t type_of(kernels::dtype type) {
  switch (type) {
    case kernels::dtype::bf16:
      return CUDA_R_16BF;
    case kernels::dtype::f16:
      return CUDA_R_16F;
    default:
      return CUDA_R_32F;
  }
}

// Row-major matrices are read as column-major ones that are turned: y^T = W x^T.
struct matmul {
  operation_handle operation;
  layout_handle weights, x, y;
  cublasLtMatmulAlgo_t algorithm{};
};

layout_handle layout_of(cudaDataType_t type, std::uint64_t rows, std::uint64_t columns, std::size_t stride) {
  cublasLtMatrixLayout_t made = nullptr;
  cublasLtMatrixLayoutCreate(&made, type, rows, columns, static_cast<std::int64_t>(stride));
  return layout_handle(made);
}

class cuda_kernels final : public device_kernels {
 public:
  cuda_kernels(blas_handle blas, device::memory workspace, const cudaDeviceProp& properties)
      : blas_(std::move(blas)),
        workspace_(std::move(workspace)),
        blocks_(static_cast<std::uint32_t>(properties.multiProcessorCount)),
        warps_(blocks_ * static_cast<std::uint32_t>(std::min(
                             decode_warps, properties.maxThreadsPerMultiProcessor / properties.warpSize))) {}

  std::uint32_t warps_at_once() const override { return warps_; }
  std::uint32_t blocks_at_once() const override { return 2 * blocks_; }

  void product(const product_work& work, device::stream& on) override {
    if (work.rows == 0) return;
    cudaStream_t const stream = device::cuda_handle(on);
    const matmul* const planned = plan(work);
    if (planned == nullptr)
      return device::note_cuda(on, cudaErrorNotSupported,
                               "cuBLASLt has no product of " + std::to_string(work.rows) + " rows with " +
                                   std::to_string(work.outputs) + " x " + std::to_string(work.inputs) +
                                   " weights");
    const float one = 1.0F;
    const float kept = work.add ? 1.0F : 0.0F;
    const cublasStatus_t status =
        cublasLtMatmul(blas_.get(), planned->operation.get(), &one, work.weights, planned->weights.get(),
                       work.x, planned->x.get(), &kept, work.y, planned->y.get(), work.y, planned->y.get(),
                       &planned->algorithm, workspace_.data(), workspace_.size_bytes(), stream);
    if (status != CUBLAS_STATUS_SUCCESS)
      device::note_cuda(on, cudaErrorUnknown,
                        "a product (cuBLASLt's status " + std::to_string(static_cast<int>(status)) + ")");
  }
  void norm_rows(const kernels::cuda::norm_work& work, device::stream& on) override {
    note(on, kernels::cuda::norm_rows(work, device::cuda_handle(on)), "norms");
  }
  void add_bias(const kernels::cuda::bias_work& work, device::stream& on) override {
    note(on, kernels::cuda::add_bias(work, device::cuda_handle(on)), "adding a bias");
  }
  void round_rows(const kernels::cuda::round_work& work, device::stream& on) override {
    note(on, kernels::cuda::round_rows(work, device::cuda_handle(on)), "rounding rows");
  }
  void swiglu_rows(const kernels::cuda::swiglu_work& work, device::stream& on) override {
    note(on, kernels::cuda::swiglu_rows(work, device::cuda_handle(on)), "SwiGLU");
  }
  void gelu_rows(const kernels::cuda::gelu_work& work, device::stream& on) override {
    note(on, kernels::cuda::gelu_rows(work, device::cuda_handle(on)), "GELU");
  }
  void rotate_rows(const kernels::cuda::rotation_work& work, device::stream& on) override {
    note(on, kernels::cuda::rotate_rows(work, device::cuda_handle(on)), "rotating queries");
  }
  void move_rows(const kernels::cuda::move_work& work, device::stream& on) override {
    note(on, kernels::cuda::move_rows(work, device::cuda_handle(on)), "moving rows");
  }
  void label_rows(const kernels::cuda::label_item* items, std::uint32_t count, std::uint32_t most_rows,
                  device::stream& on) override {
    note(on, kernels::cuda::label_rows(items, count, most_rows, device::cuda_handle(on)), "labelling rows");
  }
  void rotate_scatter(const kernels::cuda::scatter_rows* items, std::uint32_t count, std::uint32_t most_rows,
                      std::uint32_t head_dim, kernels::dtype type, device::stream& on) override {
    note(on, kernels::cuda::rotate_scatter(items, count, most_rows, head_dim, type, device::cuda_handle(on)),
         "writing new rows");
  }
  void attention_decode(const kernels::attention_shape& shape, const kernels::cuda::decode_work& work,
                        device::stream& on) override {
    note(on, kernels::cuda::attention_decode(shape, work, device::cuda_handle(on)), "decode attention");
  }
  void attention_prefill(const kernels::attention_shape& shape, const kernels::cuda::prefill_work& work,
                         float* out, std::size_t out_stride, device::stream& on) override {
    note(on, kernels::cuda::attention_prefill(shape, work, out, out_stride, device::cuda_handle(on)),
         "prefill attention");
  }
  void attention_log_sums(const kernels::attention_shape& shape, const kernels::cuda::prefill_work& work,
                          float* out, device::stream& on) override {
    note(on, kernels::cuda::attention_log_sums(shape, work, false, out, device::cuda_handle(on)),
         "sums of attention");
  }
  void attention_columns(const kernels::attention_shape& shape, const kernels::cuda::column_work& work,
                         kernels::column_statistic statistic, device::stream& on) override {
    note(on, kernels::cuda::attention_columns(shape, work, statistic, device::cuda_handle(on)),
         "columns of attention");
  }
  void fill_parts(const kernels::cuda::filled_part* items, std::uint32_t count, device::stream& on) override {
    note(on, kernels::cuda::fill_parts(items, count, device::cuda_handle(on)), "filling parts of blocks");
  }
  void gather_band_rows(const kernels::cuda::band_rows* items, std::uint32_t count, std::uint32_t row_bytes,
                        device::stream& on) override {
    note(on, kernels::cuda::gather_band_rows(items, count, row_bytes, device::cuda_handle(on)),
         "copying the rows of bands");
  }
  void encode_rows(const kernels::cuda::rows_to_encode* items, std::uint32_t count, std::uint32_t most_rows,
                   std::uint32_t head_dim, kernels::dtype type, device::stream& on) override {
    note(on, kernels::cuda::encode_rows(items, count, most_rows, head_dim, type, device::cuda_handle(on)),
         "encoding rows");
  }
  void checksums(const kernels::cuda::checked_part* parts, std::uint32_t count, std::uint64_t* out,
                 device::stream& on) override {
    note(on, kernels::cuda::checksums(parts, count, out, device::cuda_handle(on)), "checksums of bands");
  }

 private:
  using key = std::tuple<kernels::dtype, std::uint32_t, std::uint32_t, std::uint32_t, std::size_t>;

  static void note(device::stream& on, cudaError_t status, std::string_view what) {
    device::note_cuda(on, status, what);
  }

  // Kept by shape: asking for an algorithm takes longer than a small product.
  const matmul* plan(const product_work& work) {
    const key shape{work.type, work.rows, work.outputs, work.inputs, work.y_stride};
    const auto known = plans_.find(shape);
    if (known != plans_.end()) return &known->second;
    matmul made;
    if (!assign(work, made)) return nullptr;
    if (plans_.size() >= most_plans) plans_.clear();
    return &plans_.emplace(shape, std::move(made)).first->second;
  }

  bool assign(const product_work& work, matmul& made) {
    cublasLtMatmulDesc_t operation = nullptr;
    if (cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) != CUBLAS_STATUS_SUCCESS)
      return false;
    made.operation.reset(operation);
    const cublasOperation_t turned = CUBLAS_OP_T;
    if (cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned) !=
        CUBLAS_STATUS_SUCCESS)
      return false;
    const cudaDataType_t type = type_of(work.type);
    made.weights = layout_of(type, work.inputs, work.outputs, work.inputs);
    made.x = layout_of(type, work.inputs, work.rows, work.inputs);
    made.y = layout_of(CUDA_R_32F, work.outputs, work.rows, work.y_stride);
    if (!made.weights || !made.x || !made.y) return false;
    cublasLtMatmulPreference_t wished = nullptr;
    if (cublasLtMatmulPreferenceCreate(&wished) != CUBLAS_STATUS_SUCCESS) return false;
    const preference_handle preference(wished);
    const std::size_t most_bytes = workspace_.size_bytes();
    cublasLtMatmulPreferenceSetAttribute(wished, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most_bytes,
                                         sizeof most_bytes);
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(blas_.get(), operation, made.weights.get(), made.x.get(), made.y.get(),
                                       made.y.get(), wished, 1, &found, &count);
    made.algorithm = found.algo;
    return status == CUBLAS_STATUS_SUCCESS && count > 0 && found.state == CUBLAS_STATUS_SUCCESS;
  }

  static constexpr std::size_t most_plans = 4096;

  blas_handle blas_;
  device::memory workspace_;
  std::uint32_t blocks_;
  std::uint32_t warps_;
  std::map<key, matmul> plans_;
};

}  // namespace

result<std::shared_ptr<const compute_device>> open_cuda_device(unsigned number) {
  auto opened = device::open_cuda(number);
  if (!opened) return tl::unexpected(opened.error());
  auto workspace = (*opened)->allocate(workspace_bytes, "products");  // makes the device current, too
  if (!workspace) return tl::unexpected(workspace.error());
  cudaDeviceProp properties{};
  cublasLtHandle_t blas = nullptr;
  if (cudaGetDeviceProperties(&properties, static_cast<int>(number)) != cudaSuccess ||
      cublasLtCreate(&blas) != CUBLAS_STATUS_SUCCESS)
    return fail(errc::internal, "cuBLASLt cannot be used on " + (*opened)->name());
  auto kernels = std::make_shared<cuda_kernels>(blas_handle(blas), std::move(*workspace), properties);
  return std::make_shared<const compute_device>(compute_device{std::move(*opened), std::move(kernels)});
}

}  // namespace weft::engine

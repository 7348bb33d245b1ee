#include <weft/engine/runner.hpp>

#include "cpu_operations.hpp"
#include "device/operations.hpp"
#include "forward_pass.hpp"
#include "group_sums.hpp"
#include "model_specs.hpp"
#include "model_weights.hpp"
#include "row_groups.hpp"
#include "row_selection.hpp"
#include "weight_source.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

namespace weft::engine {

namespace {

constexpr std::uint32_t most_chunk_rows = 32768;  // rows of a pass are numbered in 16 bits

kernels::products products_of(arithmetic products) {
  return products == arithmetic::f32 ? kernels::products::f32 : kernels::products::automatic;
}

}  // namespace

void row_batch::add(token_id token, std::int32_t position, std::int32_t segment, std::uint32_t cache) {
  tokens.push_back(token);
  positions.push_back(position);
  segments.push_back(segment);
  caches.push_back(cache);
}

void row_batch::clear() {
  tokens.clear();
  positions.clear();
  segments.clear();
  caches.clear();
  logits_rows.clear();
}

struct runner::state {
  state(model_config c, const runner_options& o) : config(std::move(c)), options(o), pool(o.threads) {
    options.chunk_rows = std::clamp(options.chunk_rows, 1U, most_chunk_rows);
  }

  model_config config;
  runner_options options;
  kernels::thread_pool pool;
  std::filesystem::path folder;
  id128 weights_digest;
  block::model_spec spec;
  model_shard shard;
  kv_shape shape;
  model_weights weights;
  std::vector<float> frequencies;
  kernels::attention_shape attention;
  std::optional<forward_pass> pass;
  group_sums sums{nullptr};
  grouped_batch grouped;
  std::vector<row_group> chunk_groups;
  std::vector<std::uint32_t> chunk_wanted;
  std::vector<float> stream, changes;  // of rows that wait to be chosen

  result<std::unique_ptr<pass_operations>> make_operations(kernels::products allowed);

  // By cache, where the batch, the caches and so many logits fit each other.
  result<void> group_batch(const row_batch& batch, std::span<kv_cache* const> caches, std::size_t logits);

  // Room for a pass over so many rows, on all ranks.
  result<void> prepare(std::uint32_t rows) {
    return pass->prepare(grouped.groups, std::min(rows, options.chunk_rows));
  }

  // The part of a batch that lies in rows [first, first + rows).
  row_chunk chunk_of(const row_batch& batch, std::uint32_t first, std::uint32_t rows);
};

result<std::unique_ptr<pass_operations>> runner::state::make_operations(kernels::products allowed) {
  if (options.device == nullptr)
    return std::make_unique<cpu_operations>(config, weights, shape, allowed, frequencies, pool,
                                            options.group);
  auto made = device_operations::make(config, weights, shape, allowed, frequencies, pool, options);
  if (!made) return tl::unexpected(made.error());
  return std::move(*made);
}

result<void> runner::state::group_batch(const row_batch& batch, std::span<kv_cache* const> caches,
                                        std::size_t logits) {
  if (logits != batch.logits_rows.size() * config.vocab_size)
    return fail(errc::invalid_argument, "the logits of " + std::to_string(batch.logits_rows.size()) +
                                            " rows need " + std::to_string(config.vocab_size) +
                                            " floats each");
  return group_rows(batch, caches, shape, config.vocab_size, grouped);
}

row_chunk runner::state::chunk_of(const row_batch& batch, std::uint32_t first, std::uint32_t rows) {
  chunk_groups.clear();
  for (const row_group& group : grouped.groups) {
    const std::uint32_t begin = std::max(group.first_row, first);
    const std::uint32_t end = std::min(group.first_row + group.rows, first + rows);
    if (begin < end) chunk_groups.push_back({group.cache, begin - first, end - begin});
  }
  chunk_wanted.clear();
  for (auto row = std::ranges::lower_bound(batch.logits_rows, first);
       row != batch.logits_rows.end() && *row < first + rows; ++row)
    chunk_wanted.push_back(*row - first);
  return {.tokens = std::span(batch.tokens).subspan(first, rows),
          .positions = std::span(batch.positions).subspan(first, rows),
          .segments = std::span(batch.segments).subspan(first, rows),
          .groups = chunk_groups,
          .wanted = chunk_wanted,
          .first_row = first,
          .decode_step = grouped.decode_step};
}

runner::runner(std::unique_ptr<state> s) : state_(std::move(s)) {}
runner::runner(runner&&) noexcept = default;
runner& runner::operator=(runner&&) noexcept = default;
runner::~runner() = default;

result<runner> runner::make(std::unique_ptr<state> s, weight_source& source) {
  collective::communicator* const group = s->options.group;
  const auto shard =
      shard_of(s->config, group == nullptr ? 0 : group->rank(), group == nullptr ? 1 : group->size());
  if (!shard) return tl::unexpected(shard.error());
  s->shard = *shard;
  auto weights = load_weights(s->config, s->shard, source, products_of(s->options.products), s->pool);
  if (!weights) return tl::unexpected(weights.error());
  s->weights = std::move(*weights);
  s->config.weights_dtype = s->weights.dtype;
  const kernels::dtype cache_dtype = s->options.cache_dtype.value_or(s->weights.dtype);
  s->spec = spec_of(s->config, cache_dtype, s->weights_digest);
  s->config = config_of(s->config, s->shard);
  s->shape = {s->config.layers, s->config.kv_heads, s->config.head_dim, cache_dtype};
  s->sums = group_sums(group);
  s->frequencies = rope_frequencies_of(s->config);
  const kernels::products allowed = products_of(s->options.products);
  s->attention = attention_shape_of(s->config, cache_dtype, allowed);
  auto operations = s->make_operations(allowed);
  if (!operations) return tl::unexpected(operations.error());
  s->pass.emplace(s->config, s->shape, std::move(*operations), group);
  return runner(std::move(s));
}

result<runner> runner::load(const std::filesystem::path& model_folder, const runner_options& options) {
  auto config = load_model_config(model_folder);
  if (!config) return tl::unexpected(config.error());
  auto files = tensor_files::open(model_folder);
  if (!files) return tl::unexpected(files.error());
  auto s = std::make_unique<state>(std::move(*config), options);
  s->folder = model_folder;
  s->weights_digest = files->digest();
  file_weights source(std::move(*files), model_folder.string());
  return make(std::move(s), source);
}

result<runner> runner::with_random_weights(const model_config& config, const runner_options& options,
                                           std::uint64_t seed) {
  auto s = std::make_unique<state>(config, options);
  s->weights_digest = id128{0, seed};
  random_weights source(seed, s->pool);
  return make(std::move(s), source);
}

const model_config& runner::config() const {
  return state_->config;
}

const block::model_spec& runner::spec() const {
  return state_->spec;
}

const model_shard& runner::shard() const {
  return state_->shard;
}

result<void> runner::agreed(result<void> own) {
  return state_->sums.agreed(std::move(own));
}

const std::filesystem::path& runner::folder() const {
  return state_->folder;
}

kv_shape runner::cache_shape() const {
  return state_->shape;
}

std::span<const float> runner::rope_frequencies() const {
  return state_->frequencies;
}

kernels::thread_pool& runner::threads() {
  return state_->pool;
}

const std::shared_ptr<const compute_device>& runner::device() const {
  return state_->options.device;
}

block_stage* runner::stage() {
  return state_->pass->stage();
}

const kernels::attention_shape& runner::attention() const {
  return state_->attention;
}

void runner::output_columns(std::uint32_t layer, std::uint32_t query_head, std::span<float> out) {
  state& s = *state_;
  const std::uint32_t head_dim = s.config.head_dim;
  const std::size_t width = std::size_t{s.config.query_heads} * head_dim;
  std::vector<float> unit_vectors(head_dim * width, 0.0F);
  for (std::uint32_t i = 0; i < head_dim; ++i)
    unit_vectors[i * width + std::size_t{query_head} * head_dim + i] = 1.0F;
  const kernels::linear& projection = s.weights.layers[layer].attention_out;
  kernels::linear_input packed;
  packed.pack(unit_vectors.data(), head_dim, projection.inputs(), width, projection.input_dtype(), s.pool);
  projection.apply(packed, out.data(), s.config.hidden_size, s.pool);
}

result<void> runner::forward(const row_batch& batch, std::span<kv_cache* const> caches,
                             std::span<float> logits, forward_observer* observer) {
  state& s = *state_;
  const std::size_t vocab = s.config.vocab_size;
  const auto rows = static_cast<std::uint32_t>(batch.size());
  auto good = s.group_batch(batch, caches, logits.size());
  if (good) good = s.prepare(rows);
  // Who looks at caches looks at the host's.
  if (good && observer != nullptr) good = bring_caches_home(s.grouped.groups);
  if (good = agreed(std::move(good)); !good) return good;
  for (std::uint32_t first = 0; first < rows; first += s.options.chunk_rows) {
    const row_chunk chunk = s.chunk_of(batch, first, std::min(s.options.chunk_rows, rows - first));
    if (auto done = s.pass->run(chunk, logits.first(chunk.wanted.size() * vocab), observer); !done)
      return s.sums.ended(done.error());
    logits = logits.subspan(chunk.wanted.size() * vocab);
  }
  return {};
}

result<std::vector<std::uint32_t>> runner::forward_selected(const row_batch& batch, kv_cache& cache,
                                                            const row_selection& selection,
                                                            std::span<float> logits) {
  state& s = *state_;
  if (cache.base() != nullptr)
    return fail(errc::unsupported, "rows that sessions share cannot be compared with fresh ones");
  kv_cache* const caches[] = {&cache};
  auto good = check_selection(batch, selection, s.config.layers);
  const auto rows = static_cast<std::uint32_t>(batch.size());
  if (good) good = s.group_batch(batch, caches, logits.size());
  if (good) good = s.prepare(rows);
  if (good) good = bring_caches_home(s.grouped.groups);
  if (good = agreed(std::move(good)); !good) return tl::unexpected(good.error());
  s.grouped.decode_step = false;

  s.stream.resize(std::size_t{rows} * s.config.hidden_size);
  s.changes.resize(rows);
  for (std::uint32_t first = 0; first < rows; first += s.options.chunk_rows) {
    const auto count = std::min(s.options.chunk_rows, rows - first);
    const auto done = s.pass->run_until(s.chunk_of(batch, first, count), selection.layer,
                                        s.stream.data() + std::size_t{first} * s.config.hidden_size,
                                        std::span(s.changes).subspan(first, count));
    if (!done) return s.sums.ended(done.error());
  }

  auto chosen = chosen_rows(batch, selection, s.changes);
  const row_batch going_on = rows_of(batch, chosen);
  if (auto grouped = group_rows(going_on, caches, s.shape, s.config.vocab_size, s.grouped); !grouped)
    return tl::unexpected(grouped.error());
  s.grouped.decode_step = false;
  for (std::uint32_t first = 0; first < chosen.size(); first += s.options.chunk_rows) {
    const auto count = std::min(s.options.chunk_rows, static_cast<std::uint32_t>(chosen.size()) - first);
    const row_chunk chunk = s.chunk_of(going_on, first, count);
    const std::size_t floats = chunk.wanted.size() * s.config.vocab_size;
    const auto done = s.pass->run_from(chunk, selection.layer, s.stream.data(),
                                       std::span(chosen).subspan(first, count), logits.first(floats));
    if (!done) return s.sums.ended(done.error());
    logits = logits.subspan(floats);
  }
  return chosen;
}

}  // namespace weft::engine

#include <weft/bench/device_loads.hpp>
#include <weft/device/cuda_device.hpp>
#include <weft/device/device.hpp>
#include <weft/engine/block_landing.hpp>
#include <weft/engine/compute_device.hpp>
#include <weft/engine/kv_cache.hpp>
#include <weft/engine/runner.hpp>
#include <weft/engine/stitch.hpp>

#include "block_owner.hpp"
#include "interleaved.hpp"
#include "llama_shape.hpp"
#include "machine.hpp"
#include "ttft_pool.hpp"

#include <algorithm>
#include <utility>

namespace weft::bench {

namespace {

constexpr std::size_t least_arena_bytes = std::size_t{16} << 20U;

// Nothing is computed, so all but the rows may be small.
engine::model_config rows_of_llama() {
  auto config = llama_3_2_1b();
  config.hidden_size = 256;
  config.intermediate_size = 256;
  config.query_heads = config.kv_heads;
  config.vocab_size = 256;
  return config;
}

result<void> check(const device_loads_options& options) {
  for (const std::uint32_t tokens : options.tokens)
    if (tokens == 0 || tokens % block_tokens != 0)
      return fail(errc::invalid_argument, std::to_string(tokens) +
                                              " tokens are no whole blocks; take a multiple of " +
                                              std::to_string(block_tokens));
  return {};
}

// A bare copy of pinned bytes to the device.
class bare_copy {
 public:
  static result<bare_copy> make(device::device& to, std::size_t bytes) {
    auto from = to.allocate_pinned(bytes, "bytes to copy");
    if (!from) return tl::unexpected(from.error());
    auto there = to.allocate(bytes, "what a bare copy fills");
    if (!there) return tl::unexpected(there.error());
    auto stream = to.make_stream();
    if (!stream) return tl::unexpected(stream.error());
    std::fill_n(from->data(), bytes, std::byte{1});
    return bare_copy(std::move(*from), std::move(*there), std::move(*stream));
  }

  result<void> run() {
    stream_->upload(there_.data(), from_.data(), from_.size_bytes());
    return stream_->wait();
  }

 private:
  bare_copy(device::memory from, device::memory there, std::unique_ptr<device::stream> stream)
      : from_(std::move(from)), there_(std::move(there)), stream_(std::move(stream)) {}

  device::memory from_, there_;
  std::unique_ptr<device::stream> stream_;
};

// Blocks on the device, as a network card would have written them there.
class landed_blocks {
 public:
  static result<landed_blocks> make(std::shared_ptr<const engine::compute_device> on,
                                    std::span<std::byte> arena) {
    auto stream = on->memory->make_stream();
    if (!stream) return tl::unexpected(stream.error());
    auto landing = engine::block_landing::make(std::move(on), arena);
    if (!landing) return tl::unexpected(landing.error());
    return landed_blocks(std::move(*landing), std::move(*stream));
  }

  engine::block_landing& landing() const { return *landing_; }

  // What the pool has fetched, from where it lies in the arena.
  result<void> copy(const remote_blocks& pool, std::span<const block::view> blocks) {
    arrived_.clear();
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const std::span<std::byte> here = pool.place(i);
      const block::identity& id = blocks[i].id();
      arrived_.push_back({here,
                          {.key = id.key,
                           .fingerprint = id.fingerprint,
                           .generation = id.generation,
                           .incarnation = id.incarnation}});
      stream_->upload(landing_->memory().data() + (here.data() - pool.arena().data()), here.data(),
                      here.size());
    }
    return stream_->wait();
  }
  result<void> prove() {
    for (auto& outcome : landing_->prove(arrived_))
      if (!outcome) return std::move(outcome);
    return {};
  }
  void leave() {
    for (const auto& block : arrived_)
      landing_->leave(block.here.data());
  }

 private:
  landed_blocks(std::shared_ptr<engine::block_landing> landing, std::unique_ptr<device::stream> stream)
      : landing_(std::move(landing)), stream_(std::move(stream)) {}

  std::shared_ptr<engine::block_landing> landing_;
  std::unique_ptr<device::stream> stream_;
  std::vector<engine::block_landing::arrived> arrived_;
};

class loads_run {
 public:
  loads_run(const device_loads_options& options, std::shared_ptr<const engine::compute_device> device,
            engine::runner model)
      : options_(options), device_(std::move(device)), model_(std::move(model)) {
    report_.machine.cpu = cpu_name();
    report_.machine.threads = model_.threads().threads();
  }

  // `first`: of the ways there are, so that what does not depend on them is told once.
  result<void> measure(remote_blocks& pool, std::uint32_t tokens, bool first);
  report finish() { return std::move(report_); }

 private:
  // `landing`: null for blocks in the arena.
  result<void> load(engine::kv_cache& cache, std::span<const block::view> blocks,
                    engine::block_landing* landing);
  // `row`: what it is called, and by which way.
  void add(report_row row, std::uint32_t tokens, std::size_t bytes, const std::vector<double>& times,
           const std::vector<double>& copies);

  const device_loads_options& options_;
  std::shared_ptr<const engine::compute_device> device_;
  engine::runner model_;
  report report_;
};

result<void> loads_run::load(engine::kv_cache& cache, std::span<const block::view> blocks,
                             engine::block_landing* landing) {
  cache.truncate(0);
  std::vector<engine::placed_block> placed;
  std::int32_t position = 0;
  for (const block::view& block : blocks) {
    placed.push_back(
        {.block = &block, .bands = 1, .start_position = position, .segment = 1, .landing = landing});
    position += static_cast<std::int32_t>(block_tokens);
  }
  return engine::scatter_blocks(model_, cache, placed, engine::loaded_rows::where_computed);
}

void loads_run::add(report_row row, std::uint32_t tokens, std::size_t bytes, const std::vector<double>& times,
                    const std::vector<double>& copies) {
  std::vector<double> ratios;
  for (std::size_t round = 0; round < times.size(); ++round)
    ratios.push_back(copies[round] / times[round]);
  const double gigabytes = static_cast<double>(bytes) * 1e-9;
  row.name += " of " + std::to_string(tokens) + " tokens to " + device_->memory->name();
  row.gb_per_s = gigabytes / median(times);
  row.limit_name = "a bare copy of pinned bytes";
  row.limit_gb_per_s = gigabytes / median(copies);
  row.ratio = median(ratios);
  row.tokens_per_s = tokens / median(times);
  row.tokens = tokens;
  if (options_.progress) options_.progress(row);
  report_.rows.push_back(std::move(row));
}

result<void> loads_run::measure(remote_blocks& pool, std::uint32_t tokens, bool first) {
  const auto shape = block_shape_of(model_.cache_shape());
  const std::vector<block::band_rows> bands{block::all_rows(shape)};
  const std::size_t bytes = tokens / block_tokens * block::size_bytes(shape, bands);
  if (auto filled = pool.fill(shape, tokens / block_tokens); !filled) return filled;
  auto copy = bare_copy::make(*device_->memory, bytes);
  if (!copy) return tl::unexpected(copy.error());
  auto landed = landed_blocks::make(device_, pool.arena());
  if (!landed) return tl::unexpected(landed.error());
  engine::kv_cache cache(model_.cache_shape(), tokens);
  std::vector<double> copies, loads, fetches, landings;
  // The first round makes memory and does not count.
  for (unsigned round = 0; round <= options_.rounds; ++round) {
    result<void> done;
    const auto timed = [&](const auto& work) { return seconds_of([&] { done = work(); }); };
    copies.push_back(timed([&] { return copy->run(); }));
    if (!done) return done;
    result<std::vector<block::view>> blocks;
    const double fetching = seconds_of([&] { blocks = pool.fetch(); });
    if (!blocks) return tl::unexpected(blocks.error());
    loads.push_back(timed([&] { return load(cache, *blocks, nullptr); }));
    if (!done) return done;
    fetches.push_back(fetching + loads.back());
    if (done = landed->copy(pool, *blocks); !done) return done;
    landings.push_back(timed([&]() -> result<void> {
      if (auto proven = landed->prove(); !proven) return proven;
      return load(cache, *blocks, &landed->landing());
    }));
    if (!done) return done;
    landed->leave();
  }
  for (auto* times : {&copies, &loads, &fetches, &landings})
    times->erase(times->begin());
  if (first) {
    add({.name = "blocks that are here,",
         .operation = "device_load",
         .transport = "local",
         .verified = false},
        tokens, bytes, loads, copies);
    add({.name = "blocks that landed on the device, proven and loaded there,",
         .operation = "device_landing",
         .transport = "local",
         .verified = true},
        tokens, bytes, landings, copies);
  }
  add({.name = "blocks of another process, fetched, proven and loaded,",
       .operation = "device_fetch",
       .transport = pool.transport(),
       .verified = true},
      tokens, bytes, fetches, copies);
  return {};
}

result<std::shared_ptr<const engine::compute_device>> open(const device_loads_options& options) {
  auto device = options.open ? options.open(options.device) : engine::open_compute_device(options.device);
  if (device && *device == nullptr)
    return fail(errc::unsupported,
                "`" + options.device + "` is the CPU here; name a CUDA device, such as cuda:0");
  return device;
}

}  // namespace

result<report> run_device_loads(const device_loads_options& options) {
  if (auto good = check(options); !good) return tl::unexpected(good.error());
  const auto config = rows_of_llama();
  const std::size_t arena_bytes =
      std::max(arena_bytes_for(config, std::ranges::max(options.tokens)), least_arena_bytes);
  std::vector<block_owner> owners;
  for (const auto& transport : options.transports) {
    auto owner = block_owner::start(transport, arena_bytes);
    if (!owner) return tl::unexpected(owner.error());
    owners.push_back(std::move(*owner));
  }
  auto device = open(options);
  if (!device) return tl::unexpected(device.error());
  auto model = engine::runner::with_random_weights(config, {.device = *device}, 1);
  if (!model) return tl::unexpected(model.error());
  loads_run run(options, *device, std::move(*model));
  for (auto& owner : owners) {
    auto pool = remote_blocks::connect(owner, arena_bytes);
    if (!pool) return tl::unexpected(pool.error());
    const auto pinned = device::pin(pool->arena());
    // The likeness of a device needs no pinned memory.
    if (!pinned && !options.open) return tl::unexpected(pinned.error());
    for (const std::uint32_t tokens : options.tokens)
      if (auto done = run.measure(*pool, tokens, &owner == &owners.front()); !done)
        return tl::unexpected(done.error());
  }
  return run.finish();
}

}  // namespace weft::bench

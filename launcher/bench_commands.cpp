#include <weft/bench/device_loads.hpp>
#include <weft/bench/engine.hpp>
#include <weft/bench/fabric.hpp>
#include <weft/bench/kernels.hpp>
#include <weft/bench/pool.hpp>
#include <weft/bench/scoring.hpp>
#include <weft/bench/ttft.hpp>
#include <weft/launcher/shipped_files.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "commands.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace weft::launcher {
namespace {

using nlohmann::json;

struct bench_options {
  unsigned threads = 0;
  unsigned rounds = 5;
  std::vector<std::string> only;
};

template <class Value>
void put(json& row, const char* key, const std::optional<Value>& value) {
  if (value) row[key] = *value;
}

json json_of(const bench::report_row& row) {
  json out = {{"name", row.name}, {"operation", row.operation}};
  put(out, "gb_per_s", row.gb_per_s);
  put(out, "gflop_per_s", row.gflop_per_s);
  if (!row.limit_name.empty()) out["limit_name"] = row.limit_name;
  put(out, "limit_gb_per_s", row.limit_gb_per_s);
  put(out, "limit_gflop_per_s", row.limit_gflop_per_s);
  put(out, "ratio", row.ratio);
  put(out, "tokens_per_s", row.tokens_per_s);
  if (!row.transport.empty()) out["transport"] = row.transport;
  put(out, "verified", row.verified);
  put(out, "size_bytes", row.size_bytes);
  put(out, "batch", row.batch);
  put(out, "clients", row.clients);
  put(out, "tokens", row.tokens);
  put(out, "first_token_ms", row.first_token_ms);
  put(out, "load_ms", row.load_ms);
  put(out, "rotate_ms", row.rotate_ms);
  put(out, "compute_ms", row.compute_ms);
  if (!row.source.empty()) out["source"] = row.source;
  put(out, "waited_ms", row.waited_ms);
  put(out, "hidden", row.hidden);
  put(out, "us_p50", row.us_p50);
  put(out, "us_p99", row.us_p99);
  put(out, "us_p999", row.us_p999);
  if (!row.policy.empty()) out["policy"] = row.policy;
  put(out, "hit_rate", row.hit_rate);
  put(out, "limit_hit_rate", row.limit_hit_rate);
  put(out, "saved_cost", row.saved_cost);
  put(out, "per_second", row.per_second);
  put(out, "bytes_per_entry", row.bytes_per_entry);
  put(out, "lost_fraction", row.lost_fraction);
  return out;
}

std::string figure(const std::optional<double>& gb_per_s, const std::optional<double>& gflop_per_s) {
  char text[64] = "";
  if (gb_per_s) std::snprintf(text, sizeof text, "%.1f GB/s", *gb_per_s);
  if (gflop_per_s) std::snprintf(text, sizeof text, "%.0f GFLOP/s", *gflop_per_s);
  return text;
}

// Of rows that measure no bytes per second.
std::string other_figure(const bench::report_row& row) {
  std::string all;
  const auto add = [&](const std::optional<double>& value, double scale, const char* unit) {
    if (!value) return;
    char text[64];
    std::snprintf(text, sizeof text, "%.1f %s", *value * scale, unit);
    all += (all.empty() ? "" : ", ") + std::string(text);
  };
  add(row.per_second, 1e-6, "million/s");
  add(row.bytes_per_entry, 1, "bytes/entry");
  add(row.lost_fraction, 100, "% lost");
  if (row.operation != "promotion") add(row.hit_rate, 100, "% hits");
  add(row.saved_cost, 100, "% cost");
  return all;
}

// "   load 12.1, rotate 5.0, compute 101.2 ms"
std::string parts_of(const bench::report_row& row) {
  char text[128] = "";
  if (row.hidden && row.waited_ms && row.load_ms && row.compute_ms)
    std::snprintf(text, sizeof text,
                  "   alone: load %.1f, compute %.1f ms; %.0f %% of the shorter hidden, waited %.1f ms",
                  *row.load_ms, *row.compute_ms, 100 * *row.hidden, *row.waited_ms);
  else if (row.load_ms && row.rotate_ms && row.compute_ms)
    std::snprintf(text, sizeof text, "   load %.1f, rotate %.1f, compute %.1f ms", *row.load_ms,
                  *row.rotate_ms, *row.compute_ms);
  return text;
}

// "decode depth=2048    11.9 tokens/s    30.1 GB/s    0.91 of read bandwidth (33.0 GB/s)"
void print_row(std::ostream& out, const bench::report_row& row) {
  char text[512];
  std::string speed = figure(row.gb_per_s, row.gflop_per_s) + other_figure(row);
  if (row.first_token_ms) {
    std::snprintf(text, sizeof text, "%.1f ms", *row.first_token_ms);
    speed = text;
  }
  if (row.tokens_per_s) {
    std::snprintf(text, sizeof text, "%.1f tokens/s  ", *row.tokens_per_s);
    speed = text + speed;
  }
  std::snprintf(text, sizeof text, "%-44s %30s", row.name.c_str(), speed.c_str());
  out << text;
  if (row.ratio && !row.limit_name.empty()) {
    auto limit = figure(row.limit_gb_per_s, row.limit_gflop_per_s);
    if (row.limit_hit_rate) {
      char best[32];
      std::snprintf(best, sizeof best, "%.1f %% hits", *row.limit_hit_rate * 100);
      limit = best;
    }
    std::snprintf(text, sizeof text, row.first_token_ms ? "   %.1f x faster than %s" : "   %.2f of %s",
                  *row.ratio, row.limit_name.c_str());
    out << text << (limit.empty() ? "" : " (" + limit + ")");
  } else if (!row.limit_name.empty()) {
    out << "   no limit: " << row.limit_name;
  }
  out << parts_of(row);
  if (row.operation == "promotion" && row.hit_rate && row.batch) {
    std::snprintf(text, sizeof text, "   %.1f %% of %zu pages a step on time", *row.hit_rate * 100,
                  *row.batch);
    out << text;
  }
  if (row.us_p50 && row.us_p99) {
    std::snprintf(text, sizeof text, "   p50 %.1f us, p99 %.1f us", *row.us_p50, *row.us_p99);
    out << text;
    if (row.us_p999) out << ", p999 " << std::lround(*row.us_p999) << " us";
  }
  out << std::endl;
}

auto shower(const command_context& context) {
  return [&context](const bench::report_row& row) {
    if (!context.quiet || !context.json) print_row(context.json ? std::cerr : std::cout, row);
  };
}

int finish(const bench::report& report, const command_context& context) {
  if (!context.json) return exit_done;
  json rows = json::array();
  for (const auto& row : report.rows)
    rows.push_back(json_of(row));
  print_json({{"machine",
               {{"cpu", report.machine.cpu},
                {"threads", report.machine.threads},
                {"native_bf16", report.machine.native_bf16}}},
              {"rows", rows}});
  return exit_done;
}

struct engine_part {
  std::string_view name;
  bench::report (*run)(const bench::engine_options&);
};
constexpr engine_part engine_parts[] = {
    {"adaptive", bench::run_adaptive}, {"engine", bench::run_engine}, {"sparse", bench::run_sparse}};

std::vector<std::string> names_of_groups() {
  std::vector<std::string> names(std::begin(bench::kernel_groups), std::end(bench::kernel_groups));
  for (const auto& part : engine_parts)
    names.emplace_back(part.name);
  return names;
}

// The parts of the whole engine first fork, so they come before the kernels' threads.
int bench_kernels(const bench_options& options, const command_context& context) {
  const auto show = shower(context);
  const auto is_wanted = [&](std::string_view group) {
    return options.only.empty() || std::ranges::find(options.only, group) != options.only.end();
  };
  bench::report report;
  const auto add = [&report](bench::report part) {
    report.machine = part.machine;
    std::ranges::move(part.rows, std::back_inserter(report.rows));
  };
  for (const auto& part : engine_parts)
    if (is_wanted(part.name)) add(part.run({options.threads, options.rounds, show}));
  if (std::ranges::any_of(bench::kernel_groups, is_wanted))
    add(bench::run_kernels({options.threads, options.rounds, options.only, show}));
  return finish(report, context);
}

struct bench_fabric_options {
  bench::fabric_options transfers;
  std::string device;  // empty: none, transfers are measured
};

int bench_fabric(const bench_fabric_options& options, const command_context& context) {
  if (!options.device.empty()) {
    const auto loads = bench::run_device_loads({.device = options.device,
                                                .rounds = options.transfers.rounds,
                                                .transports = options.transfers.transports,
                                                .progress = shower(context)});
    return loads ? finish(*loads, context) : report(loads.error());
  }
  auto wanted = options.transfers;
  wanted.progress = shower(context);
  const auto measured = bench::run_fabric(wanted);
  return measured ? finish(*measured, context) : report(measured.error());
}

int bench_ttft(const bench::ttft_options& options, bool shipped, const command_context& context) {
  auto wanted = options;
  wanted.progress = shower(context);
  if (shipped && wanted.model.empty()) {
    const auto folder = shipped_model_folder();
    if (!folder) return report(folder.error());
    wanted.model = *folder;
  }
  const auto measured = bench::run_ttft(wanted);
  return measured ? finish(*measured, context) : report(measured.error());
}

void add_ttft(CLI::App& group, command_context& context) {
  auto options = std::make_shared<bench::ttft_options>();
  auto what = std::make_shared<std::vector<std::string>>(std::vector<std::string>{"recall", "llama"});
  auto* ttft =
      add_command(group, "ttft", "first token with documents out of another process, beside recomputing them",
                  "weft bench ttft --tokens 512,2048 --transport shm", context);
  ttft->add_option(
          "--shape", *what,
          "recall (the shipped model or --model), llama (Llama-3.2-1B's shape, random weights), or both")
      ->check(CLI::IsMember({"recall", "llama"}))
      ->delimiter(',')
      ->capture_default_str();
  ttft->add_option("--model", options->model, "model folder in place of the shipped model");
  ttft->add_option("--tokens", options->document_tokens, "of the documents, multiples of 512")
      ->delimiter(',')
      ->check(CLI::Range(512U, 65536U))
      ->capture_default_str();
  ttft->add_option("--transport", options->transports, "shm, tcp, or both")
      ->check(CLI::IsMember({"shm", "tcp"}))
      ->delimiter(',')
      ->capture_default_str();
  ttft->add_option("--folder", options->folder,
                   "keep a file of the blocks in this folder and measure first tokens out of it, too")
      ->type_name("FOLDER");
  ttft->add_option("--threads", options->threads, "threads (0: one for each CPU of this process)")
      ->check(CLI::Range(0U, 1024U))
      ->capture_default_str();
  auto* rounds = ttft->add_option("--rounds", options->rounds, "everything is measured so often, in turn")
                     ->check(CLI::Range(1U, 1000U))
                     ->capture_default_str();
  ttft->add_option(
          "--overlap", options->overlaps,
          "only what transfer and computing hide of each other, on CPUs of their own, so often in turn")
      ->check(CLI::Range(1U, 1000U))
      ->excludes(rounds);
  on_run(ttft, context, [options, what, &context] {
    const auto wants = [&what](const char* shape) { return std::ranges::find(*what, shape) != what->end(); };
    auto chosen = *options;
    chosen.llama = wants("llama");
    return bench_ttft(chosen, wants("recall"), context);
  });
}

void add_scoring(CLI::App& group, command_context& context) {
  auto options = std::make_shared<bench::scoring_options>();
  auto* scoring =
      add_command(group, "scoring", "kvzip and kvzap scores beside the prefill of what they score",
                  "weft bench scoring --tokens 8192", context);
  scoring->add_option("--tokens", options->tokens, "lengths of the context")
      ->delimiter(',')
      ->check(CLI::Range(16U, 131072U))
      ->capture_default_str();
  scoring->add_option("--layers", options->layers, "of Llama-3.2-1B, which has 16")
      ->check(CLI::Range(1U, 16U))
      ->capture_default_str();
  scoring->add_option("--threads", options->threads, "threads (0: one for each CPU of this process)")
      ->check(CLI::Range(0U, 1024U))
      ->capture_default_str();
  scoring->add_option("--rounds", options->rounds, "everything is measured so often, in turn")
      ->check(CLI::Range(1U, 1000U))
      ->capture_default_str();
  on_run(scoring, context, [options, &context] {
    auto wanted = *options;
    wanted.progress = shower(context);
    return finish(bench::run_scoring(wanted), context);
  });
}

void add_fabric(CLI::App& group, command_context& context) {
  auto options = std::make_shared<bench_fabric_options>();
  auto* fabric = add_command(group, "fabric",
                             "transfers between two processes, beside memcpy, raw UCX and a plain socket",
                             "weft bench fabric --transport shm", context);
  fabric->add_option("--transport", options->transfers.transports, "shm, tcp, or both")
      ->check(CLI::IsMember({"shm", "tcp"}))
      ->delimiter(',')
      ->capture_default_str();
  fabric->add_option("--rounds", options->transfers.rounds, "everything is measured so often, in turn")
      ->check(CLI::Range(1U, 1000U))
      ->capture_default_str();
  auto* const gpu =
      fabric->add_option("--gpu", options->device,
                         "documents into the memory of a CUDA device instead (cuda:0 unless named), "
                         "beside a bare copy of as many pinned bytes");
  gpu->type_name("DEVICE")->expected(0, 1);
  on_run(fabric, context, [options, gpu, &context] {
    if (gpu->count() > 0 && options->device.empty()) options->device = "cuda:0";
    return bench_fabric(*options, context);
  });
}

struct pool_options {
  std::string trace;
  std::vector<std::string> only = {"path", "parts"};
  bench::pool_path_options path;
  bench::pool_trace_options replay;
  bench::pool_parts_options parts;
};

int bench_pool(const pool_options& options, const command_context& context) {
  const auto show = shower(context);
  if (!options.trace.empty()) {
    auto replay = options.replay;
    replay.trace = options.trace;
    replay.progress = show;
    const auto measured = bench::run_pool_trace(replay);
    return measured ? finish(*measured, context) : report(measured.error());
  }
  const auto wants = [&](const char* what) {
    return std::ranges::find(options.only, what) != options.only.end();
  };
  bench::report all;
  const auto add = [&](result<bench::report> measured) -> result<void> {
    if (!measured) return tl::unexpected{measured.error()};
    all.machine = measured->machine;
    all.rows.insert(all.rows.end(), measured->rows.begin(), measured->rows.end());
    return {};
  };
  auto path = options.path;
  auto parts = options.parts;
  path.folder = parts.folder;
  path.rounds = parts.rounds;
  path.progress = parts.progress = show;
  // The path first: it needs a process without other threads.
  if (wants("path"))
    if (const auto done = add(bench::run_pool_path(path)); !done) return report(done.error());
  if (wants("parts"))
    if (const auto done = add(bench::run_pool_parts(parts)); !done) return report(done.error());
  return finish(all, context);
}

void add_pool(CLI::App& group, command_context& context) {
  auto options = std::make_shared<pool_options>();
  options->parts.folder = std::filesystem::temp_directory_path();
  auto* pool = add_command(
      group, "pool",
      "put, get and lookup through the whole path, beside memcpy and redis-server; what storage nodes "
      "are made of; or, with --trace, hit rates of the eviction policies",
      "weft bench pool --folder /mnt/nvme\n  weft bench pool --only path --transport shm\n  weft bench "
      "pool --trace agents",
      context);
  pool->add_option("--only", options->only,
                   "path (put, get, lookup), parts (file tier, directory, allocator), or both")
      ->check(CLI::IsMember({"path", "parts"}))
      ->delimiter(',')
      ->capture_default_str();
  pool->add_option("--transport", options->path.transports, "of the path: shm, tcp, or both")
      ->check(CLI::IsMember({"shm", "tcp"}))
      ->delimiter(',')
      ->capture_default_str();
  pool->add_option("--clients", options->path.clients, "of the path: how many at once")
      ->check(CLI::Range(1U, 64U))
      ->delimiter(',')
      ->capture_default_str();
  pool->add_option("--trace", options->trace, "replay made-up requests: zipf or agents")
      ->check(CLI::IsMember({"zipf", "agents"}));
  pool->add_option("--requests", options->replay.requests, "blocks that the trace asks for")
      ->check(CLI::Range(1'000U, 100'000'000U))
      ->capture_default_str();
  pool->add_option("--seed", options->replay.seed, "of the trace")->capture_default_str();
  pool->add_option("--folder", options->parts.folder,
                   "where the file tier is measured, and the nodes of the path meet")
      ->check(CLI::ExistingDirectory)
      ->capture_default_str();
  pool->add_option("--rounds", options->parts.rounds, "a thing and its limit are measured so often, in turn")
      ->check(CLI::Range(1U, 1000U))
      ->capture_default_str();
  on_run(pool, context, [options, &context] { return bench_pool(*options, context); });
}

}  // namespace

void add_bench_commands(CLI::App& app, command_context& context) {
  auto* group =
      app.add_subcommand("bench", "measure this machine: figures beside their limit, of the same run");
  group->require_subcommand(1);

  auto options = std::make_shared<bench_options>();
  auto* kernels = add_command(
      *group, "kernels", "the model runner at the shape of Llama-3.2-1B, beside products and memory alone",
      "weft bench kernels --threads 2", context);
  kernels->add_option("--threads", options->threads, "threads (0: one for each CPU of this process)")
      ->check(CLI::Range(0U, 1024U))
      ->capture_default_str();
  kernels->add_option("--rounds", options->rounds, "a thing and its limit are measured so often, in turn")
      ->check(CLI::Range(1U, 1000U))
      ->capture_default_str();
  kernels->add_option("--only", options->only, "groups of figures (all)")
      ->delimiter(',')
      ->check(CLI::IsMember(names_of_groups()));
  on_run(kernels, context, [options, &context] { return bench_kernels(*options, context); });
  add_fabric(*group, context);
  add_pool(*group, context);
  add_ttft(*group, context);
  add_scoring(*group, context);
}

}  // namespace weft::launcher

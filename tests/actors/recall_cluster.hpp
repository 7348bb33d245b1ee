// A simulated cluster with the shipped model, and contexts of its question sets.
#pragma once

#include <weft/engine/runner.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "simulated_cluster.hpp"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace weft::simulation {

inline constexpr auto limit = std::chrono::seconds{60};
inline const char* const model_folder = WEFT_SOURCE_DIR "/models/recall";
inline const std::vector<std::uint32_t> default_bands{100'000, 200'000, 300'000, 500'000, 700'000, 1'000'000};

inline std::shared_ptr<engine::runner> recall_model() {
  engine::runner_options options;
  options.threads = 1;
  auto model = engine::runner::load(model_folder, options);
  REQUIRE_MESSAGE(model, to_string(model.error()));
  return std::make_shared<engine::runner>(std::move(*model));
}

inline cluster_plan plan_of(const std::shared_ptr<engine::runner>& model, std::uint32_t replicas = 1) {
  return {.seed = 11,
          .replicas = replicas,
          .nodes = {{"decode", {actors::role::decode, actors::role::gateway}},
                    {"prefill", {actors::role::prefill}},
                    {"storage-1", {actors::role::storage}},
                    {"storage-2", {actors::role::storage}}},
          .model = model,
          .dram_bytes = 64 << 20,
          .staging_bytes = 16 << 20};
}

inline void settle(simulated_cluster& cluster) {
  REQUIRE(cluster.run_until([&] { return cluster.settled(); }, std::chrono::seconds{10}));
  cluster.run_until([] { return false; }, std::chrono::seconds{1});
}

template <class T>
T value_of(simulated_cluster& cluster, const std::shared_ptr<eventual<T>>& done) {
  REQUIRE(cluster.run_until([&] { return done->done(); }, limit));
  if (done->failure) FAIL(to_string(*done->failure));
  return *done->value;
}

template <class T>
std::string failure_of(simulated_cluster& cluster, const std::shared_ptr<eventual<T>>& done) {
  REQUIRE(cluster.run_until([&] { return done->done(); }, limit));
  REQUIRE(done->failure);
  CHECK(done->failure->context.find('\n') == std::string::npos);
  return done->failure->context;
}

struct recall_context {
  std::vector<std::string> documents;
  std::vector<std::pair<std::string, std::vector<std::string>>> questions;
};

inline std::vector<recall_context> contexts_of(const std::string& set, std::size_t count) {
  std::ifstream lines(WEFT_SOURCE_DIR "/models/sets/" + set + ".jsonl");
  std::vector<recall_context> contexts;
  for (std::string line; contexts.size() < count && std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    recall_context context{.documents = json.at("documents"), .questions = {}};
    for (const auto& question : json.at("questions"))
      context.questions.emplace_back(question.at("question"), question.at("answers"));
    contexts.push_back(std::move(context));
  }
  REQUIRE(contexts.size() == count);
  return contexts;
}

// Scored by kvzip, in the bands that are the default; in the order of the texts.
inline std::vector<id128> ingest_in_bands(simulated_cluster& cluster, const std::vector<std::string>& texts) {
  std::vector<id128> documents;
  for (const auto& text : texts)
    documents.push_back(value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands})).id);
  return documents;
}

inline actors::question asked(const std::string& text, const std::vector<id128>& documents,
                              std::uint32_t ratio_millionths) {
  actors::question q;
  q.text = text;
  q.documents = documents;
  q.max_tokens = 24;
  q.ratio_millionths = ratio_millionths;
  return q;
}

inline std::uint64_t moved_bytes(const actors::answer& answer) {
  std::uint64_t bytes = 0;
  for (const auto& t : answer.transfers)
    bytes += t.bytes;
  return bytes;
}

// By name, of one node.
inline std::int64_t counted(simulated_cluster& cluster, const std::string& node, const std::string& name) {
  const auto counters = value_of(cluster, cluster.report(node)).counters;
  const auto found = std::ranges::find(counters, name, &actors::counter::name);
  REQUIRE(found != counters.end());
  return found->value;
}

}  // namespace weft::simulation

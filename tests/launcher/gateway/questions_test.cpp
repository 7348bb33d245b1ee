#include <doctest/doctest.h>

#include "scripted_backend.hpp"

#include <chrono>
#include <stdexcept>
#include <thread>

using namespace weft;
using launcher::gateway::testing::running_gateway;
using std::chrono::milliseconds;

namespace {

client::ask_request question(std::string text) {
  client::ask_request request;
  request.question = std::move(text);
  return request;
}

}  // namespace

TEST_CASE("everything of a question arrives, and everything of its answer comes back") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  client::ask_request request{
      "who was it?", {{1, 2}, {3, 4}}, "be brief", "full", "star", 0.5, 8, 0.7, 0.9, 42, 0.125, 0, 4,
      "dim",         "kvzap_mlp",      -6.5};
  std::string streamed;
  std::vector<std::int32_t> tokens;
  const auto answer = cluster.ask(request, [&](const client::token_piece& piece) {
    streamed += piece.text;
    tokens.push_back(piece.id);
  });
  REQUIRE(answer);
  CHECK(static_cast<const schema::ask_request&>(gateway.backend->last_question()) == request);
  CHECK(answer->answer == "who was it?");
  CHECK(answer->tokens == std::vector<std::int32_t>{0, 1, 2});
  CHECK(streamed == answer->answer);
  CHECK(tokens == answer->tokens);
  CHECK(answer->prompt_tokens == 17);
  CHECK(answer->ttft_ms == 1.5);
  CHECK(answer->load_ms == 0.25);
  CHECK(answer->rotate_ms == 0.125);
  CHECK(answer->compute_ms == 1);
  CHECK(answer->decode_tokens_per_s == 100);
  CHECK(answer->misses == 1);
  CHECK(answer->transfers == std::vector<client::transfer_info>{{"storage-1", "shm", "posix/memory", 4096},
                                                                {"storage-2", "tcp", "tcp/lo", 8192}});
}

TEST_CASE("who judges rows and by which threshold come together, or are refused") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  auto request = question("who was it?");
  request.judge = "kvzap_mlp";
  auto refused = cluster.ask(request);
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::invalid_argument);
  CHECK(refused.error().context == "`kvzap_mlp` judges rows by a threshold; give one, -6 is a usual one");
  request.threshold = 2e6;
  CHECK(cluster.ask(request).error().context.find("between -1000 and 1000") != std::string::npos);
  request.threshold = -6;
  CHECK(cluster.ask(request));
  request.judge.clear();
  CHECK(cluster.ask(request).error().context.find("name kvzap_linear or kvzap_mlp") != std::string::npos);
}

TEST_CASE("all of a long answer has been delivered when ask returns, to a slow reader too") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  std::string text;
  for (int i = 0; i < 20'000; ++i)
    text += "word" + std::to_string(i) + " ";
  auto request = question(text);
  request.max_tokens = 100'000;
  std::string streamed;
  const auto answer = cluster.ask(request, [&](const client::token_piece& piece) { streamed += piece.text; });
  REQUIRE(answer);
  CHECK(answer->tokens.size() == 20'000);
  CHECK(streamed == text);
}

TEST_CASE("a question without a callback is answered as well") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  CHECK(cluster.ask(question("well then")).value().answer == "well then");
}

TEST_CASE("a failed question keeps the code and the words of the backend") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  const auto answer = cluster.ask(question("fail"), [](const client::token_piece&) {});
  REQUIRE(!answer);
  CHECK(answer.error().code == errc::out_of_space);
  CHECK(answer.error().context == "the question is longer than the context; shorten it");
  // Not this connection is lost, but what the cluster cannot reach.
  const auto alone = cluster.ask(question("alone"));
  REQUIRE(!alone);
  CHECK(alone.error().code == errc::unreachable);
  CHECK(alone.error().context == "no live node has that role; give it to one");
  CHECK(cluster.ask(question("on we go")).has_value());
}

TEST_CASE("what no question may be is refused, and the connection goes on") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  auto request = question("");
  CHECK(cluster.ask(request).error().context == "the question is empty; ask something");
  request = question(std::string(schema::limits::prompt_bytes + 1, '?'));
  CHECK(cluster.ask(request).error().context ==
        "the question has 1048577 bytes, more than the 1048576 that are taken; ingest what is long as a "
        "document");
  request = question("how?");
  request.documents.resize(schema::limits::documents + 1);
  CHECK(cluster.ask(request).error().context ==
        "a question over 4097 documents; at most 4096 are taken: name fewer, or let those that fit the "
        "question best be chosen");
  request = question("how?");
  request.max_tokens = 0;
  CHECK(cluster.ask(request).error().code == errc::invalid_argument);
  request = question("how?");
  request.top_p = 0;
  CHECK(cluster.ask(request).error().code == errc::invalid_argument);
  request = question("how?");
  request.temperature = -1;
  CHECK(cluster.ask(request).error().code == errc::invalid_argument);
  request = question("how?");
  request.ratio = 1.5;
  CHECK(cluster.ask(request).error().code == errc::invalid_argument);
  CHECK(cluster.ask(question("how?")));
}

TEST_CASE("a deadline ends the call and tells the backend to stop") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  const auto answer = cluster.ask(question("hold"), {}, {milliseconds(50), {}});
  REQUIRE(!answer);
  CHECK(answer.error().code == errc::deadline_exceeded);
  CHECK(gateway.backend->wait_for_cancellation());
  gateway.backend->answer_held();  // too late, and nobody's any more
  CHECK(cluster.ask(question("next")));
}

TEST_CASE("a caller that stops ends the call and tells the backend") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  std::stop_source stop;
  std::jthread other([&] {
    if (gateway.backend->wait_for_held(1)) stop.request_stop();
  });
  const auto answer = cluster.ask(question("hold"), {}, {milliseconds(0), stop.get_token()});
  REQUIRE(!answer);
  CHECK(answer.error().code == errc::cancelled);
  CHECK(gateway.backend->wait_for_cancellation());
  CHECK(cluster.ask(question("next")));
}

TEST_CASE("a callback that throws ends the call, and the exception reaches the caller") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  const auto throwing = [](const client::token_piece&) { throw std::runtime_error("enough"); };
  CHECK_THROWS_WITH(cluster.ask(question("one two three"), throwing), "enough");
  CHECK(cluster.ask(question("next")));
}

TEST_CASE("a client that goes away cancels what it asked for") {
  running_gateway gateway;
  {
    auto cluster = gateway.connect();
    std::stop_source stop;
    std::jthread caller([&] {
      CHECK(!cluster.ask(question("hold"), {}, {milliseconds(0), stop.get_token()}));
    });
    REQUIRE(gateway.backend->wait_for_held(1));
    stop.request_stop();
  }
  CHECK(gateway.backend->wait_for_cancellation());
}

TEST_CASE("a completion that is let go without an answer ends the call") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  std::jthread other([&] {
    if (gateway.backend->wait_for_held(1)) gateway.backend->forget_held();
  });
  const auto answer = cluster.ask(question("hold"));
  REQUIRE(!answer);
  CHECK(answer.error().code == errc::internal);
}

TEST_CASE("several threads ask over one connection") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  std::vector<std::jthread> threads;
  std::atomic<int> right{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const auto text = "thread " + std::to_string(t) + " asks " + std::to_string(i);
        std::string streamed;
        const auto answer = cluster.ask(question(text), [&](const auto& piece) { streamed += piece.text; });
        right += answer && answer->answer == text && streamed == text;
      }
    });
  threads.clear();
  CHECK(right == 200);
}

TEST_CASE("calls of one connection are bounded") {
  launcher::gateway::server_options options;
  options.calls_max = 1;
  running_gateway gateway(options);
  auto cluster = gateway.connect();
  std::stop_source stop;
  std::jthread holding([&] {
    CHECK(!cluster.ask(question("hold"), {}, {milliseconds(0), stop.get_token()}));
  });
  REQUIRE(gateway.backend->wait_for_held(1));
  const auto refused = cluster.ask(question("another"));
  stop.request_stop();
  holding.join();
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::overloaded);
  CHECK(cluster.ask(question("now")));
}

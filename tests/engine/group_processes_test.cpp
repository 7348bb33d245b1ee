// The recall model's questions, answered by processes that each have a part of the model, with documents that
// one of them fetched for all.
#include <weft/engine/prompt_format.hpp>
#include <weft/fabric/ucx_transport.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "fabric/hexadecimal.hpp"
#include "fabric/line_process.hpp"
#include "group_request.hpp"
#include "small_models.hpp"
#include "stored_document.hpp"

#include <algorithm>
#include <bit>
#include <fstream>
#include <memory>

using namespace weft;
using namespace weft::engine;
using namespace weft::engine::test;
using testing::line_process;

namespace {

constexpr float largest_difference = 1e-3F;
constexpr std::uint32_t block_tokens = 64;
constexpr std::size_t questions_of_a_set = 4;
const std::string model_folder = WEFT_SOURCE_DIR "/models/recall";

struct known_question {
  group_request asked;
  group_answer alone;  // what one process with the whole model says
  std::string text;    // of that
  std::vector<std::string> right;
};

// The documents of a question set's first context as blocks in an arena, and its questions.
class pool_of_documents {
 public:
  explicit pool_of_documents(const std::string& transports)
      : pool_(fabric::make_ucx_transport({.arena_bytes = 16 << 20, .transports = transports}).value()),
        whole_(load_recall(exact_options())),
        tokens_(tokenizer::load(model_folder).value()),
        format_(prompt_format::for_model(whole_.config(), tokens_).value()) {
    for (const std::string set : {"needle_512", "kv_512"})
      add(set);
  }

  const std::vector<known_question>& questions() const { return questions_; }

  std::uint64_t bytes_of(const known_question& q) const {
    std::uint64_t bytes = 0;
    for (const auto& document : q.asked.blocks)
      for (const auto& block : document)
        bytes += block.length;
    return bytes;
  }

 private:
  void add(const std::string& set) {
    std::ifstream lines(WEFT_SOURCE_DIR "/models/sets/" + set + ".jsonl");
    std::string line;
    REQUIRE(std::getline(lines, line));
    const auto context = nlohmann::json::parse(line);
    group_request asked;
    asked.pool_address = testing::to_hexadecimal(pool_->address());
    asked.opening = format_.opening(tokens_, "");
    for (token_id id = 0; id < static_cast<token_id>(whole_.config().vocab_size); ++id)
      if (format_.is_end(id)) asked.stop_tokens.push_back(id);
    std::vector<stored_document> stored;
    for (const std::string text : context.at("documents")) {
      asked.documents.push_back(format_.document(tokens_, text));
      const auto encoded = encode_document(whole_, asked.documents.back());
      REQUIRE(encoded);
      stored.emplace_back(*encoded, block_tokens);
      asked.blocks.push_back(put(stored.back()));
    }
    std::vector<document_blocks> blocks;
    for (const auto& document : stored)
      blocks.push_back(document.blocks());
    for (std::size_t i = 0; i < questions_of_a_set; ++i) {
      const auto& question = context.at("questions").at(i);
      asked.question = format_.question(tokens_, question.at("question").get<std::string>());
      auto alone = answer(whole_, asked, blocks);
      REQUIRE_MESSAGE(alone.has_value(), alone.error().context);
      auto said = alone->tokens;
      if (format_.is_end(said.back())) said.pop_back();
      questions_.push_back({asked, std::move(*alone), format_.answer(tokens_, said), question.at("answers")});
    }
  }

  std::vector<stored_range> put(const stored_document& document) {
    std::vector<stored_range> ranges;
    for (const auto bytes : document.block_bytes()) {
      REQUIRE(used_ + bytes.size() <= pool_->arena().size());
      std::ranges::copy(bytes, pool_->arena().begin() + static_cast<std::ptrdiff_t>(used_));
      ranges.push_back({used_, bytes.size()});
      used_ += (bytes.size() + 63) / 64 * 64;
    }
    return ranges;
  }

  std::unique_ptr<fabric::transport> pool_;
  runner whole_;
  tokenizer tokens_;
  prompt_format format_;
  std::uint64_t used_ = 0;
  std::vector<known_question> questions_;
};

struct said_by_rank {
  std::uint64_t fetched_bytes = 0;
  group_answer given;
};

class decode_group {
 public:
  decode_group(unsigned processes, const std::string& transports) {
    for (unsigned i = 0; i < processes; ++i)
      processes_.push_back(
          std::make_unique<line_process>(std::vector<std::string>{WEFT_DECODE_RANK, transports, "20000"}));
    for (const auto& process : processes_)
      seats_.push_back(process->read_line());
  }

  // The first ones are a group now; the others keep their seats.
  void form(unsigned ranks) {
    ranks_ = ranks;
    std::string list;
    for (unsigned rank = 0; rank < ranks; ++rank)
      list += ' ' + seats_[rank];
    for (unsigned rank = 0; rank < ranks; ++rank)
      processes_[rank]->write_line(std::to_string(rank) + list);
  }

  void send(const group_request& asked, unsigned ranks) const {
    for (unsigned rank = 0; rank < ranks; ++rank)
      processes_[rank]->write_line(to_line(asked));
  }

  std::vector<said_by_rank> ask(const group_request& asked) const {
    send(asked, ranks_);
    std::vector<said_by_rank> said;
    for (unsigned rank = 0; rank < ranks_; ++rank) {
      const auto text = processes_[rank]->read_line();
      std::istringstream line(text);
      std::string word;
      auto& one = said.emplace_back();
      line >> word >> one.fetched_bytes;
      REQUIRE_MESSAGE(word == "answer", text);
      one.given.tokens = read_list<token_id>(line);
      for (const auto bits : read_list<std::uint32_t>(line))
        one.given.logits.push_back(std::bit_cast<float>(bits));
    }
    return said;
  }

  // Killed while the others wait for it; what they say then.
  std::vector<std::string> lose_last_during(const group_request& asked) {
    processes_.back()->freeze();
    send(asked, ranks_ - 1);
    processes_.back()->kill();
    processes_.pop_back();
    std::vector<std::string> said;
    for (std::size_t i = 0; i < processes_.size(); ++i) {
      said.push_back(processes_[i]->read_line());
      seats_[i] = processes_[i]->read_line();
    }
    return said;
  }

 private:
  std::vector<std::unique_ptr<line_process>> processes_;
  std::vector<std::string> seats_;
  unsigned ranks_ = 0;
};

void check_answer(const decode_group& group, const pool_of_documents& pool, const known_question& question) {
  const auto said = group.ask(question.asked);
  std::uint64_t fetched_bytes = 0;
  for (const auto& rank : said) {
    CHECK(rank.given.tokens == question.alone.tokens);
    CHECK(distance(rank.given.logits, question.alone.logits) <= largest_difference);
    CHECK(rank.given.logits == said.front().given.logits);
    fetched_bytes += rank.fetched_bytes;
  }
  CHECK(fetched_bytes == pool.bytes_of(question));
  CHECK(said[question.asked.root].fetched_bytes == fetched_bytes);
}

void check_group(unsigned ranks, const std::string& transports) {
  const pool_of_documents pool(transports);
  decode_group group(ranks, transports);
  group.form(ranks);
  std::size_t right = 0;
  unsigned turn = 0;
  for (auto question : pool.questions()) {
    CAPTURE(question.text);
    right += std::ranges::count(question.right, question.text) != 0 ? 1 : 0;
    question.asked.root = turn++ % ranks;
    check_answer(group, pool, question);
  }
  CHECK(right * 2 > pool.questions().size());  // else equal answers would say little
}

}  // namespace

TEST_CASE("two processes answer as one does, over tcp") {
  check_group(2, "tcp");
}

TEST_CASE("four processes answer as one does, over shared memory") {
  check_group(4, "shm");
}

TEST_CASE("who is left of a group answers from the pool again") {
  const pool_of_documents pool("shm");
  decode_group group(4, "shm");
  group.form(4);
  check_answer(group, pool, pool.questions()[0]);
  const auto& interrupted = pool.questions()[1];
  for (const auto& said : group.lose_last_during(interrupted.asked)) {
    const bool lost = said.starts_with("lost unreachable ") || said.starts_with("lost deadline_exceeded ");
    CHECK_MESSAGE(lost, said);
  }
  // Three cannot cut this model: two go on.
  group.form(2);
  check_answer(group, pool, interrupted);
  check_answer(group, pool, pool.questions()[5]);
}

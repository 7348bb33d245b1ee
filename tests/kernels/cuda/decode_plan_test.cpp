#include <weft/kernels/cuda/decode_plan.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

using weft::kernels::cuda::decode_plan;

TEST_CASE("the pieces of a plan are the rows of its heads, in order, each once") {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::uint32_t> rows(1 + random() % 20);
    for (auto& count : rows)
      count = random() % 4 == 0 ? 0 : static_cast<std::uint32_t>(random() % 100'000);
    decode_plan plan;
    plan.assign(rows, 1 + static_cast<std::uint32_t>(random() % 4000));
    REQUIRE(plan.heads() == rows.size());
    for (std::uint32_t head = 0; head < rows.size(); ++head) {
      std::uint32_t next = 0;
      for (auto i = plan.first_piece()[head]; i < plan.first_piece()[head + 1]; ++i) {
        const auto& piece = plan.pieces()[i];
        REQUIRE(piece.head == head);
        REQUIRE(piece.first_row == next);
        REQUIRE(piece.rows > 0);
        next += piece.rows;
      }
      REQUIRE(next == rows[head]);
    }
  }
}

TEST_CASE("a head of a hundred times the rows gets a hundred times the pieces") {
  decode_plan plan;
  const std::vector<std::uint32_t> rows{640, 64'000};
  plan.assign(rows, 1000);
  const auto count = [&](std::size_t head) {
    return plan.first_piece()[head + 1] - plan.first_piece()[head];
  };
  CHECK(count(1) == 100 * count(0));
  CHECK(plan.pieces().size() >= 500);
}

TEST_CASE("a plan without rows has no pieces") {
  decode_plan plan;
  plan.assign(std::vector<std::uint32_t>{0, 0}, 100);
  CHECK(plan.pieces().empty());
  CHECK(plan.heads() == 2);
  plan.assign({}, 100);
  CHECK(plan.heads() == 0);
}

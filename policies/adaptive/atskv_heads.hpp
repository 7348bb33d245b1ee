// What ATSKV knows of the rows of one head: in slots, on their way to the passive store, and there.
#pragma once

#include <weft/policies/adaptive/relevance.hpp>
#include <weft/policies/adaptive/threshold_controller.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::policies::adaptive {

// One value of each kind a row, side by side, so that loops over rows become vector instructions.
class row_books {
 public:
  explicit row_books(std::size_t lines) : lines_(lines) {}

  std::vector<std::uint32_t> tokens;
  std::vector<attention_trace> traces;
  std::vector<float> relevance;
  std::vector<smoothed_choice> choices;
  std::vector<float> projected;  // [row][line]

  std::size_t size() const { return tokens.size(); }
  std::span<float> lines_of(std::size_t row) { return std::span(projected).subspan(row * lines_, lines_); }

  void add(std::uint32_t token) {
    tokens.push_back(token);
    traces.emplace_back();
    relevance.push_back(0);
    choices.emplace_back();
    projected.resize(size() * lines_);
  }
  void add(const row_books& other, std::size_t row) {
    tokens.push_back(other.tokens[row]);
    traces.push_back(other.traces[row]);
    relevance.push_back(other.relevance[row]);
    choices.push_back(other.choices[row]);
    const auto lines = other.projected.begin() + static_cast<std::ptrdiff_t>(row * lines_);
    projected.insert(projected.end(), lines, lines + static_cast<std::ptrdiff_t>(lines_));
  }
  void set(std::size_t to, const row_books& other, std::size_t row) {
    tokens[to] = other.tokens[row];
    traces[to] = other.traces[row];
    relevance[to] = other.relevance[row];
    choices[to] = other.choices[row];
    const auto lines = other.projected.begin() + static_cast<std::ptrdiff_t>(row * lines_);
    std::copy_n(lines, lines_, projected.begin() + static_cast<std::ptrdiff_t>(to * lines_));
  }
  // Room for more by an eighth at a time: what only grows would have up to twice its size otherwise.
  void make_room(std::size_t more) {
    if (size() + more <= tokens.capacity()) return;
    const std::size_t room = size() + more + size() / 8;
    each_column(*this, [&](auto& column, std::size_t values) { column.reserve(room * values); });
  }
  void keep_first(std::size_t rows) {
    each_column(*this, [&](auto& column, std::size_t values) { column.resize(rows * values); });
  }
  void forget_first(std::size_t rows) {
    each_column(*this, [&](auto& column, std::size_t values) {
      column.erase(column.begin(), column.begin() + static_cast<std::ptrdiff_t>(rows * values));
    });
  }
  std::size_t bytes() const {
    std::size_t all = 0;
    each_column(*this, [&](const auto& column, std::size_t) { all += column.capacity() * sizeof column[0]; });
    return all;
  }

 private:
  // With how many values of it a row has.
  template <class Books, class Visit>
  static void each_column(Books& books, Visit visit) {
    visit(books.tokens, 1);
    visit(books.traces, 1);
    visit(books.relevance, 1);
    visit(books.choices, 1);
    visit(books.projected, books.lines_);
  }

  std::size_t lines_;
};

enum class stored_state : std::uint8_t {
  absent,    // in the store only
  coming,    // asked for
  resident,  // in a slot, too
  lost       // not to be had any more
};

struct head_rows {
  static constexpr std::uint32_t no_copy = UINT32_MAX;

  explicit head_rows(std::size_t lines) : slots(lines), leaving(lines), stored(lines) {}

  row_books slots;
  std::vector<std::uint32_t> copies;  // [slot]: the same row in the store
  row_books leaving;                  // until they lie in a page
  row_books stored;                   // in the order of the store
  std::vector<stored_state> states;
  std::vector<std::uint32_t> page_ends;  // behind each page's last row

  std::uint32_t page_begin(std::uint32_t page) const { return page == 0 ? 0 : page_ends[page - 1]; }
};

}  // namespace weft::policies::adaptive

// How right an answer is, and how certain a mean of such scores.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weft::launcher::study {

enum class metric { exact_match, f1 };

// F1 for question-answering sets by their names (qa, hotpotqa, 2wikimqa, musique, nq, squad, ...), exact
// match for everything else.
metric metric_of(std::string_view task);

// 1 if the answer is one of the wanted ones, spaces around it aside, else 0.
double exact_match(std::string_view answer, std::span<const std::string> wanted);

// LongBench's: lower case, no ASCII punctuation, no articles; F1 of the words as multisets, best over
// `wanted`.
double word_f1(std::string_view answer, std::span<const std::string> wanted);

struct interval {
  double low = 0;
  double high = 1;
};

// Wilson's 95 % interval of a share out of n; [0, 1] for n = 0.
interval wilson(double share, std::size_t n);

// 0 where there is nothing.
double mean(std::span<const double> values);
double median(std::vector<double> values);

}  // namespace weft::launcher::study

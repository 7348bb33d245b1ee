// What an adaptive cache costs a decode step.
#pragma once

#include <weft/bench/report.hpp>
#include <weft/engine/runner.hpp>

#include "pool_cluster.hpp"

namespace weft::bench {

// A step of an ATSKV session, predictor, controller and passive store included, beside one with a sliding
// window of the same size.
report_row measure_adaptive_step(engine::runner& model, unsigned rounds);

// The same with the passive store in another process, that of a holder which has not been started. hit_rate:
// the part of the pages that were there when their layer began to attend.
report_row measure_promotions(engine::runner& model, pool_holder& holder, unsigned rounds);

}  // namespace weft::bench

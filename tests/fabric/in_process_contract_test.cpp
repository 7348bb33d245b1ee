#include "in_process_pair.hpp"

#define WEFT_TRANSPORT_PAIRS \
  in_process_get_pair, in_process_unmapped_pair, in_process_push_pair, faultless_pair, faultless_unmapped_pair
#include "contract.hpp"
#include "landing_contract.hpp"

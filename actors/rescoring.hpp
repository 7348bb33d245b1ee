// Scores documents that were stored whole, one by one while the node has nothing else to do, and puts their
// rows in bands: the document keeps its id and its name.
//
// The new blocks have keys of their own and are written first. Then the manifest is replaced, under the same
// key: who reads it from then on reads bands, who has read the former one goes on with its blocks, which are
// dropped some time later. Of several prefill nodes the one that wins the rendezvous of the manifest's key
// does it. Documents of clusters with nodes that rank blocks stay as they are: these rank whole blocks.
#pragma once

#include <weft/actors/control.hpp>
#include <weft/actors/interfaces.hpp>
#include <weft/actors/work.hpp>

#include <caf/actor_system.hpp>

namespace weft::actors {

// Local. Ends when it is told to exit.
rescoring_actor spawn_rescoring(caf::actor_system& system, const node_config& config, work_parts parts,
                                local_prefill_actor prefill);

}  // namespace weft::actors

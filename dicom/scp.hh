// The receive child: one association, from the first byte of the request to the end. DCMTK inside.
//
// Runs in a process of its own, forked by the zygote and thrown away afterwards: whatever a hostile
// peer breaks, it breaks there. The only file of this header's users is dicom/zygote.cc.
#ifndef CT2MR_DICOM_SCP_HH
#define CT2MR_DICOM_SCP_HH

#include "dicom/receive.h"

struct T_ASC_Network;

// What a child is given. Descriptors are owned by the child.
struct AssociationJob {
    int connection_fd; // TCP, blocking, > 0
    int channel_fd;    // reports to the daemon, answers from it; blocking
    int tmp_dir_fd, incoming_dir_fd;
    uint64_t connection_id; // part of file names: unique per run of the daemon
    const ReceiveOptions *options;
};

// Once per zygote: dictionary, timeouts, network without a listener. nullptr on failure.
T_ASC_Network *scp_initialise(const ReceiveOptions &options) noexcept;

// Once per child; the result is its exit status: 0 the association ended in order.
int scp_run_association(T_ASC_Network *network, const AssociationJob &job) noexcept;

#endif

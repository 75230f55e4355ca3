/* daemon/node_receive: what the ends of associations say about a series' transfer. */
#include "tests/test.h"

#include "daemon/node.h"
#include "dicom/prescan.h"
#include "tests/db_fixture.h"

#include <unistd.h>

static Node node;

/* With an empty database and an empty spool. */
static void open_node(void)
{
    char incoming[PATH_SIZE];
    Err err = {0};
    CHECK_OK(path_format(incoming, &err, "%s/incoming", test_dir()), &err);
    CHECK_OK(dir_make(incoming, &err), &err);
    (void)unlink(fixture_path());
    memset(&node, 0, sizeof node);
    node.db = fixture_open();
    (void)snprintf(node.config.spool_path, sizeof node.config.spool_path, "%s", test_dir());
}

/* The first image of series 1 that the association `id` brings (again). */
static void store(uint64_t id)
{
    Instance image = fixture_image(1, (int)id);
    CHECK_INT(node_stored(&node, id, "CT99", &image), DIMSE_SUCCESS);
}

static Transfer transfer(void)
{
    return fixture_job(node.db, 1).transfer;
}

TEST(node_transfer_ends_with_the_last, "two associations with one series: ended when both are")
{
    open_node();
    store(1);
    store(2);
    CHECK_INT(node_open_associations(&node, fixture_image(1, 1).series_uid), 2);
    node_association_ended(&node, 1, true);
    CHECK_INT(transfer(), TRANSFER_OPEN);
    node_association_ended(&node, 2, true);
    CHECK_INT(transfer(), TRANSFER_ENDED);
    CHECK_INT(node.n_touches, 0);
    db_close(node.db);
}

TEST(node_transfer_cut,
     "one of two is cut: the other's orderly end does not mend that, whichever is "
     "first; a later association does")
{
    for (int cut_first = 0; cut_first < 2; cut_first++) {
        open_node();
        store(1);
        store(2);
        node_association_ended(&node, 1, !cut_first);
        node_association_ended(&node, 2, cut_first);
        CHECK_INT(transfer(), TRANSFER_CUT);
        store(3);
        CHECK_INT(transfer(), TRANSFER_CUT);
        node_association_ended(&node, 3, true);
        CHECK_INT(transfer(), TRANSFER_ENDED);
        db_close(node.db);
    }
}

TEST(node_transfer_refused_image, "refused before or after the images: cut; of another class: not")
{
    static const struct {
        bool before;
        uint16_t dimse;
        Transfer want;
    } cases[] = {{true, DIMSE_DATA_SET_MISMATCH, TRANSFER_CUT},
                 {false, DIMSE_OUT_OF_RESOURCES, TRANSFER_CUT},
                 {true, DIMSE_SOP_CLASS_NOT_SUPPORTED, TRANSFER_ENDED}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        open_node();
        if (!cases[i].before)
            store(1);
        node_refused(&node, 1, ST_DICOM_ATTRIBUTE, cases[i].dimse, "test");
        if (cases[i].before)
            store(1);
        node_association_ended(&node, 1, true);
        CHECK_INT(transfer(), cases[i].want);
        CHECK_INT(node.n_touches, 0);
        db_close(node.db);
    }
}

TEST(node_transfer_sent_again, "given up as cut, then the same images again in order: queued; a "
                               "job that failed otherwise stays so")
{
    static const Status codes[] = {ST_SERIES_CUT, ST_SERIES_SPACING};
    for (int i = 0; i < 2; i++) {
        open_node();
        store(1);
        node_association_ended(&node, 1, false);
        CHECK(node_move(&node, 1, JOB_RECEIVING, JOB_FAILED, codes[i], NULL, 0));
        Instance image = fixture_image(1, 1);
        (void)snprintf(image.file, sizeof image.file, "second.dcm");
        CHECK_INT(node_stored(&node, 2, "CT99", &image), DIMSE_SUCCESS);
        node_association_ended(&node, 2, true);
        CHECK_INT(fixture_job(node.db, 1).state, i == 0 ? JOB_QUEUED : JOB_FAILED);
        db_close(node.db);
    }
}

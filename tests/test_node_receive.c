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

static void end(uint64_t id, bool orderly)
{
    node_association_ended(&node, id, "CT99", orderly);
}

TEST(node_transfer_ends_with_the_last, "two associations with one series: ended when both are")
{
    int64_t last_ms;
    open_node();
    store(1);
    store(2);
    CHECK_INT(node_open_associations(&node, fixture_image(1, 1).series_uid, &last_ms), 2);
    CHECK(last_ms > 0);
    end(1, true);
    CHECK_INT(transfer(), TRANSFER_OPEN);
    end(2, true);
    CHECK_INT(transfer(), TRANSFER_ENDED);
    db_close(node.db);
}

TEST(node_transfer_cut,
     "one of two is cut: the other's orderly end does not mend that, whichever is "
     "first; nor does one image again; all images again do")
{
    for (int cut_first = 0; cut_first < 2; cut_first++) {
        open_node();
        store(1);
        store(2);
        end(1, !cut_first);
        end(2, cut_first);
        CHECK_INT(transfer(), TRANSFER_CUT);
        store(1);
        end(1, true);
        CHECK_INT(transfer(), TRANSFER_CUT);
        store(2);
        end(2, true);
        CHECK_INT(transfer(), TRANSFER_ENDED);
        db_close(node.db);
    }
}

TEST(node_transfer_association_per_image, "one is cut within its only image, has it refused, or is "
                                          "turned away: all that its peer is sending is cut")
{
    for (int how = 0; how < 3; how++) {
        open_node();
        store(1);
        end(1, true);
        CHECK_INT(transfer(), TRANSFER_ENDED);
        if (how == 0)
            end(2, false);
        if (how == 1) {
            node_refused(&node, 2, ST_DICOM_PARSE, DIMSE_CANNOT_UNDERSTAND, "test");
            end(2, true);
        }
        if (how == 2)
            node_turned_away(&node, "CT99");
        CHECK_INT(transfer(), TRANSFER_CUT);
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
        node_association_ended(&node, 1, "CT99", true);
        CHECK_INT(transfer(), cases[i].want);
        CHECK_INT(node.n_touches, 0);
        db_close(node.db);
    }
}

TEST(node_transfer_too_many_series, "what does not fit into the list of an association stays open "
                                    "without one; the next association is not affected")
{
    int64_t last_ms;
    open_node();
    for (int k = 0; k < NODE_MAX_TOUCHES_EACH + 5; k++) {
        Instance image = fixture_image(100 + k, 1);
        CHECK_INT(node_stored(&node, 1, "CT98", &image), DIMSE_SUCCESS);
    }
    CHECK_INT(node.n_touches, NODE_MAX_TOUCHES_EACH);
    Instance last = fixture_image(100 + NODE_MAX_TOUCHES_EACH + 4, 1);
    CHECK_INT(node_open_associations(&node, last.series_uid, &last_ms), 0);
    store(2);
    CHECK_INT(node.n_touches, NODE_MAX_TOUCHES_EACH + 1);
    db_close(node.db);
}

TEST(node_transfer_sent_again, "given up as cut, then the same images again in order: queued; a "
                               "job that failed otherwise stays so")
{
    static const Status codes[] = {ST_SERIES_CUT, ST_SERIES_SPACING};
    for (int i = 0; i < 2; i++) {
        open_node();
        store(1);
        node_association_ended(&node, 1, "CT99", false);
        CHECK(node_move(&node, 1, JOB_RECEIVING, JOB_FAILED, codes[i], NULL, 0));
        Instance image = fixture_image(1, 1);
        (void)snprintf(image.file, sizeof image.file, "second.dcm");
        CHECK_INT(node_stored(&node, 2, "CT99", &image), DIMSE_SUCCESS);
        node_association_ended(&node, 2, "CT99", true);
        CHECK_INT(fixture_job(node.db, 1).state, i == 0 ? JOB_QUEUED : JOB_FAILED);
        db_close(node.db);
    }
}

static bool in_incoming(const char *file)
{
    char path[PATH_SIZE];
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/incoming/%s", test_dir(), file), &err);
    return access(path, F_OK) == 0;
}

static void make_file(const char *file)
{
    char path[PATH_SIZE];
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/incoming/%s", test_dir(), file), &err);
    CHECK_OK(file_write_durable(path, "x", 1, &err), &err);
}

TEST(node_same_image_again,
     "the second file is removed while the first is there, else it takes its "
     "place")
{
    for (int is_there = 0; is_there < 2; is_there++) {
        open_node();
        Instance image = fixture_image(1, 1), again = image;
        if (is_there)
            make_file(image.file);
        CHECK_INT(node_stored(&node, 1, "CT99", &image), DIMSE_SUCCESS);
        (void)snprintf(again.file, sizeof again.file, "again.dcm");
        make_file(again.file);
        CHECK_INT(node_stored(&node, 1, "CT99", &again), DIMSE_SUCCESS);
        CHECK_INT(in_incoming(again.file), !is_there);
        bool known;
        Err err = {0};
        CHECK_OK(db_has_file(node.db, is_there ? image.file : again.file, &known, &err), &err);
        CHECK(known);
        db_close(node.db);
    }
}

TEST(node_enter_removes_nothing,
     "the database cannot take it: a file that recovery found stays, one "
     "that was not acknowledged goes")
{
    uint16_t dimse;
    Err err = {0};
    open_node();
    fixture_sql(node.db,
                "CREATE TRIGGER full BEFORE INSERT ON image BEGIN SELECT RAISE(ABORT, 'x'); END");
    Instance image = fixture_image(1, 1);
    make_file(image.file);
    CHECK_STATUS(node_enter(&node, 0, "", &image, &dimse, &err), ST_DB);
    CHECK(in_incoming(image.file));
    CHECK_INT(node_stored(&node, 1, "CT99", &image), DIMSE_OUT_OF_RESOURCES);
    CHECK(!in_incoming(image.file));
    db_close(node.db);
}

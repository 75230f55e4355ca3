/* daemon/node_receive: what the ends of associations say about a series' transfer. */
#include "tests/test.h"

#include "base/clock.h"
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

/* Associations are opened in the order of their numbers, a second apart, the first an hour ago. */
static AssociationInfo info(uint64_t id)
{
    int64_t hour_ms = 3600 * 1000;
    return (AssociationInfo){id, clock_steady_ms() - hour_ms + 1000 * (int64_t)id, "CT99", true};
}

static void store_image(uint64_t id, int series, int k)
{
    AssociationInfo from = info(id);
    Instance image = fixture_image(series, k);
    CHECK_INT(node_stored(&node, &from, &image), DIMSE_SUCCESS);
}

/* The first image of series 1 that the association `id` brings (again). */
static void store(uint64_t id)
{
    store_image(id, 1, (int)id);
}

static void refuse(uint64_t id, Status status, uint16_t dimse)
{
    AssociationInfo from = info(id);
    node_refused(&node, &from, status, dimse, "test");
}

static Transfer transfer(void)
{
    return fixture_job(node.db, 1).transfer;
}

static void end(uint64_t id, bool orderly)
{
    AssociationInfo from = info(id);
    node_association_ended(&node, &from, orderly);
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

/* Three images, an association each, all released in order. */
static void store_one_by_one(void)
{
    for (uint64_t id = 1; id <= 3; id++) {
        store(id);
        end(id, true);
    }
    CHECK_INT(transfer(), TRANSFER_ENDED);
}

/* Something happens in an association of its own, from which no image comes. */
static void happen(uint64_t id, int how)
{
    if (how == 0)
        end(id, false);
    if (how == 1) {
        refuse(id, ST_DICOM_PARSE, DIMSE_CANNOT_UNDERSTAND);
        end(id, true);
    }
    if (how == 2)
        node_turned_away(&node, "CT99");
}

TEST(
    node_transfer_association_per_image,
    "one is cut within its only image, has it refused, or is turned away, before, between or after "
    "the others: the series is cut")
{
    for (int how = 0; how < 3; how++)
        for (uint64_t when = 0; when < 3; when++) {
            open_node();
            node.config.max_quiet_s = 60;
            for (uint64_t id = 1; id <= 3; id++) {
                if (id == when + 1)
                    happen(10, how);
                store(id);
                end(id, true);
            }
            if (when == 2)
                happen(11, how);
            CHECK_INT(transfer(), TRANSFER_CUT);
            db_close(node.db);
        }
}

TEST(node_transfer_in_one_association_is_whole,
     "released in order: whatever befalls the peer's next association, or an echo, is not its own")
{
    for (int how = 0; how < 3; how++) {
        open_node();
        node.config.max_quiet_s = 60;
        for (int k = 1; k <= 3; k++)
            store_image(1, 1, k);
        end(1, true);
        happen(2, how);
        CHECK_INT(transfer(), TRANSFER_ENDED);
        db_close(node.db);
    }
    open_node();
    store_one_by_one();
    AssociationInfo echo = info(9);
    echo.stores = false;
    node_association_ended(&node, &echo, false);
    CHECK_INT(transfer(), TRANSFER_ENDED);
    db_close(node.db);
}

TEST(node_transfer_parallel_associations, "one of two open at a time is cut before either has "
                                          "brought an image: the other's series is cut")
{
    open_node();
    node.config.max_quiet_s = 60;
    AssociationInfo a = info(1), b = info(2);
    b.opened_ms = a.opened_ms = clock_steady_ms() - 5000;
    node_association_ended(&node, &b, false);
    Instance first = fixture_image(1, 1), second = fixture_image(1, 2);
    CHECK_INT(node_stored(&node, &a, &first), DIMSE_SUCCESS);
    CHECK_INT(node_stored(&node, &a, &second), DIMSE_SUCCESS);
    node_association_ended(&node, &a, true);
    CHECK_INT(transfer(), TRANSFER_CUT);
    db_close(node.db);
}

TEST(node_transfer_conflict_in_it,
     "an image answered C111H for another series' sake: this one is cut")
{
    open_node();
    store_image(1, 2, 1);
    end(1, true);
    AssociationInfo from = info(2);
    Instance clash = fixture_image(1, 1), other = fixture_image(2, 1);
    memcpy(clash.sop_uid, other.sop_uid, sizeof clash.sop_uid);
    clash.digest[0] = clash.digest[0] == 'a' ? 'b' : 'a';
    CHECK_INT(node_stored(&node, &from, &clash), DIMSE_DUPLICATE_CONFLICT);
    store_image(2, 1, 2);
    end(2, true);
    CHECK_INT(fixture_job(node.db, 2).transfer, TRANSFER_CUT);
    CHECK_INT(fixture_job(node.db, 1).state, JOB_QUARANTINED);
    db_close(node.db);
}

TEST(node_transfer_cut_again_after_it_was_given_up,
     "FAILED as cut: a second cut is noted, one image again in order does not mend it")
{
    open_node();
    store_image(1, 1, 1);
    store_image(1, 1, 2);
    end(1, false);
    CHECK(node_move(&node, 1, JOB_RECEIVING, JOB_FAILED, ST_SERIES_CUT, NULL, 0));
    store_image(2, 1, 1);
    store_image(2, 1, 2);
    end(2, false);
    store_image(3, 1, 2);
    end(3, true);
    CHECK_INT(transfer(), TRANSFER_CUT);
    CHECK_INT(fixture_job(node.db, 1).state, JOB_FAILED);
    store_image(4, 1, 1);
    store_image(4, 1, 2);
    end(4, true);
    CHECK_INT(transfer(), TRANSFER_ENDED);
    CHECK_INT(fixture_job(node.db, 1).state, JOB_RECEIVING); /* judged when it is quiet */
    db_close(node.db);
}

TEST(node_transfer_at_restart,
     "open: cut; ended in several associations: cut; ended in one: as it was")
{
    for (int how = 0; how < 3; how++) {
        open_node();
        Err err = {0};
        if (how == 0) {
            store(1);
        } else if (how == 1) {
            store_one_by_one();
        } else {
            store_image(1, 1, 1);
            store_image(1, 1, 2);
            end(1, true);
        }
        node.n_touches = 0;
        CHECK_OK(node_recover(&node, &err), &err);
        CHECK_INT(transfer(), how < 2 ? TRANSFER_CUT : TRANSFER_ENDED);
        db_close(node.db);
    }
}

TEST(node_late_image_while_sending,
     "no destination has seen it: the same job starts over; one has: a new job")
{
    for (int seen = 0; seen < 2; seen++) {
        open_node();
        Err err = {0};
        int64_t id = fixture_computed(node.db, 1, 1, false);
        if (seen)
            CHECK_OK(db_delivery_connected(node.db, id, &err), &err);
        store_image(2, 1, 2);
        CHECK_INT(fixture_job(node.db, id).state, seen ? JOB_SENDING : JOB_RECEIVING);
        CHECK_INT(fixture_number(node.db, "SELECT count(*) FROM job"), seen ? 2 : 1);
        db_close(node.db);
    }
}

TEST(node_conflict_outlives_its_job, "found while the job had failed: the next one is quarantined")
{
    open_node();
    AssociationInfo from = info(1);
    store_image(1, 1, 1);
    CHECK(node_move(&node, 1, JOB_RECEIVING, JOB_FAILED, ST_SERIES_GAP, NULL, 0));
    Instance other = fixture_image(1, 1);
    other.digest[0] = other.digest[0] == 'a' ? 'b' : 'a';
    CHECK_INT(node_stored(&node, &from, &other), DIMSE_DUPLICATE_CONFLICT);
    store_image(1, 1, 2);
    JobRow job = fixture_job(node.db, 2);
    CHECK(job.state == JOB_QUARANTINED && job.code == ST_SERIES_CONFLICT);
    db_close(node.db);
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
        refuse(1, ST_DICOM_ATTRIBUTE, cases[i].dimse);
        if (cases[i].before)
            store(1);
        end(1, true);
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
        store_image(1, 100 + k, 1);
    }
    CHECK_INT(node.n_touches, NODE_MAX_TOUCHES_EACH - 1);
    refuse(1, ST_DICOM_PARSE, DIMSE_CANNOT_UNDERSTAND); /* that is remembered all the same */
    CHECK_INT(node.n_touches, NODE_MAX_TOUCHES_EACH);
    Instance last = fixture_image(100 + NODE_MAX_TOUCHES_EACH + 4, 1);
    CHECK_INT(node_open_associations(&node, last.series_uid, &last_ms), 0);
    store(2);
    CHECK_INT(node.n_touches, NODE_MAX_TOUCHES_EACH + 1);
    db_close(node.db);
}

TEST(node_transfer_sent_again,
     "given up as cut, then the same images again in order: judged again; a "
     "job that failed otherwise stays so")
{
    static const Status codes[] = {ST_SERIES_CUT, ST_SERIES_SPACING};
    for (int i = 0; i < 2; i++) {
        open_node();
        store(1);
        end(1, false);
        CHECK(node_move(&node, 1, JOB_RECEIVING, JOB_FAILED, codes[i], NULL, 0));
        Instance image = fixture_image(1, 1);
        (void)snprintf(image.file, sizeof image.file, "second.dcm");
        AssociationInfo from = info(2);
        CHECK_INT(node_stored(&node, &from, &image), DIMSE_SUCCESS);
        end(2, true);
        CHECK_INT(fixture_job(node.db, 1).state, i == 0 ? JOB_RECEIVING : JOB_FAILED);
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
        AssociationInfo from = info(1);
        CHECK_INT(node_stored(&node, &from, &image), DIMSE_SUCCESS);
        (void)snprintf(again.file, sizeof again.file, "again.dcm");
        make_file(again.file);
        CHECK_INT(node_stored(&node, &from, &again), DIMSE_SUCCESS);
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
    CHECK_STATUS(node_enter(&node, NULL, &image, &dimse, &err), ST_DB);
    CHECK(in_incoming(image.file));
    AssociationInfo from = info(1);
    CHECK_INT(node_stored(&node, &from, &image), DIMSE_OUT_OF_RESOURCES);
    CHECK(!in_incoming(image.file));
    db_close(node.db);
}

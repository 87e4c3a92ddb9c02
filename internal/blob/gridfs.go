package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/errs"
)

const (
	// gridChunk is what one upload has in memory. MongoDB's documents hold 16 MiB.
	gridChunk = 1 << 20
	// gridBatch chunks are in memory of one download.
	gridBatch = 2
	// gridTime bounds each write, and opening; a large read takes what it takes.
	gridTime = 30 * time.Second
	// gridFind is how long a server is looked for.
	gridFind = 10 * time.Second
	// gridAbandoned is as s3Abandoned.
	gridAbandoned = 24 * time.Hour

	gridDatabase = "muster" // if the URI names none
	gridBucket   = "carves"
)

// GridFS keeps blobs in MongoDB as the GridFS specification says, so that
// mongofiles reads them: a document for each in carves.files, and its parts in
// carves.chunks.
//
// It does so with the driver's collections. The driver's own bucket has 16 MiB
// in memory for each upload, shares a buffer between uploads, and reads all
// that comes before a range.
//
// What has no document in carves.files is noted in carves.pending before it is
// begun, so that parts left by a crash are found without reading all parts.
//
// No test of this package has a MongoDB: what is tested is how addresses are
// read, and what is said where no server answers.
type GridFS struct {
	client                 *mongo.Client
	files, chunks, pending *mongo.Collection
}

// gridFile is a document of carves.files.
type gridFile struct {
	ID       bson.ObjectID `bson:"_id"`
	Length   int64         `bson:"length"`
	Chunk    int64         `bson:"chunkSize"`
	Uploaded time.Time     `bson:"uploadDate"`
	Name     string        `bson:"filename"`
}

// gridPart is a document of carves.chunks.
type gridPart struct {
	ID   bson.ObjectID `bson:"_id"`
	File bson.ObjectID `bson:"files_id"`
	N    int32         `bson:"n"`
	Data []byte        `bson:"data"`
}

// OpenGridFS connects, makes the indexes, and removes what was left unfinished.
func OpenGridFS(ctx context.Context, uri string) (*GridFS, error) {
	ctx, cancel := context.WithTimeout(ctx, gridTime)
	defer cancel()
	o := options.Client().ApplyURI(uri).SetServerSelectionTimeout(gridFind).SetAppName("muster")
	journal, safe := true, writeconcern.Majority()
	safe.Journal = &journal
	o.SetWriteConcern(safe)
	if o.Validate() != nil {
		// The cause may show the password.
		return nil, errs.New(errs.Invalid, "the address of MongoDB is not mongodb://user:password@host:port/database, or a part of it is wrong")
	}
	client, err := mongo.Connect(o)
	if err != nil {
		return nil, errs.New(errs.Invalid, "the address of MongoDB cannot be used")
	}
	db := client.Database(databaseOf(uri))
	g := &GridFS{
		client: client,
		files:  db.Collection(gridBucket + ".files"), chunks: db.Collection(gridBucket + ".chunks"), pending: db.Collection(gridBucket + ".pending"),
	}
	if err := g.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open carves in MongoDB: %w", err), g.Close())
	}
	return g, nil
}

// databaseOf is the path of a URI, which may have many hosts, so net/url does
// not read it.
func databaseOf(uri string) string {
	_, rest, _ := strings.Cut(uri, "://")
	rest, _, _ = strings.Cut(rest, "?")
	if _, name, _ := strings.Cut(rest, "/"); name != "" {
		return name
	}
	return gridDatabase
}

func (g *GridFS) prepare(ctx context.Context) error {
	_, err := g.files.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: "filename", Value: 1}, {Key: "uploadDate", Value: 1}}})
	if err != nil {
		return mongoError(err)
	}
	_, err = g.chunks.Indexes().CreateOne(ctx, mongo.IndexModel{
		Keys: bson.D{{Key: "files_id", Value: 1}, {Key: "n", Value: 1}}, Options: options.Index().SetUnique(true),
	})
	if err != nil {
		return mongoError(err)
	}
	cursor, err := g.pending.Find(ctx, bson.D{{Key: "at", Value: bson.D{{Key: "$lt", Value: time.Now().Add(-gridAbandoned)}}}})
	if err != nil {
		return mongoError(err)
	}
	var left []struct {
		ID bson.ObjectID `bson:"_id"`
	}
	if err := cursor.All(ctx, &left); err != nil {
		return mongoError(err)
	}
	for _, l := range left {
		// One with a file was finished, but for the note.
		n, err := g.files.CountDocuments(ctx, byID(l.ID))
		if err != nil {
			return mongoError(err)
		}
		if n > 0 {
			_, err = g.pending.DeleteOne(ctx, byID(l.ID))
		} else {
			err = g.remove(ctx, l.ID)
		}
		if err != nil {
			return mongoError(err)
		}
	}
	return nil
}

func byID(id bson.ObjectID) bson.D { return bson.D{{Key: "_id", Value: id}} }

// Put writes the parts, then the document that makes a blob of them; at last it
// removes older ones of that name.
func (g *GridFS) Put(ctx context.Context, name string, size int64, r io.Reader) error {
	if err := errors.Join(checkName(name), checkSize(size)); err != nil {
		return err
	}
	if err := g.put(ctx, name, size, &exactly{ctx, r, size}); err != nil {
		return fmt.Errorf("keep blob %s: %w", name, err)
	}
	return nil
}

func (g *GridFS) put(ctx context.Context, name string, size int64, r io.Reader) error {
	older, err := g.named(ctx, name)
	if err != nil {
		return err
	}
	id := bson.NewObjectID()
	if err := insert(ctx, g.pending, bson.D{{Key: "_id", Value: id}, {Key: "at", Value: time.Now()}}); err != nil {
		return err
	}
	err = g.putParts(ctx, id, size, r)
	if err == nil {
		err = insert(ctx, g.files, gridFile{ID: id, Length: size, Chunk: gridChunk, Uploaded: time.Now(), Name: name})
	}
	if err != nil {
		// Also when the caller has given up.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gridTime)
		defer cancel()
		return errors.Join(err, mongoError(g.remove(ctx, id)))
	}
	for _, f := range older {
		if err := g.remove(ctx, f.ID); err != nil {
			return mongoError(err)
		}
	}
	_, err = g.pending.DeleteOne(ctx, byID(id))
	return mongoError(err)
}

func (g *GridFS) putParts(ctx context.Context, id bson.ObjectID, size int64, r io.Reader) error {
	part := make([]byte, min(size, gridChunk))
	for n := int64(0); n*gridChunk < size; n++ {
		part = part[:min(size-n*gridChunk, gridChunk)]
		if _, err := io.ReadFull(r, part); err != nil {
			return err
		}
		if err := insert(ctx, g.chunks, gridPart{ID: bson.NewObjectID(), File: id, N: int32(n), Data: part}); err != nil {
			return err
		}
	}
	return nil
}

func insert(ctx context.Context, c *mongo.Collection, document any) error {
	ctx, cancel := context.WithTimeout(ctx, gridTime)
	defer cancel()
	_, err := c.InsertOne(ctx, document)
	return mongoError(err)
}

// named returns the files of that name, the newest first. There is more than
// one for moments, or after a crash.
func (g *GridFS) named(ctx context.Context, name string) ([]gridFile, error) {
	cursor, err := g.files.Find(ctx, bson.D{{Key: "filename", Value: name}}, options.Find().SetSort(newestFirst()))
	if err != nil {
		return nil, mongoError(err)
	}
	var files []gridFile
	return files, mongoError(cursor.All(ctx, &files))
}

func newestFirst() bson.D {
	return bson.D{{Key: "filename", Value: 1}, {Key: "uploadDate", Value: -1}, {Key: "_id", Value: -1}}
}

// remove takes away a file, or what there is of it.
func (g *GridFS) remove(ctx context.Context, id bson.ObjectID) error {
	note := bson.D{{Key: "$setOnInsert", Value: bson.D{{Key: "at", Value: time.Now()}}}}
	if _, err := g.pending.UpdateOne(ctx, byID(id), note, options.UpdateOne().SetUpsert(true)); err != nil {
		return err
	}
	if _, err := g.files.DeleteOne(ctx, byID(id)); err != nil {
		return err
	}
	if _, err := g.chunks.DeleteMany(ctx, bson.D{{Key: "files_id", Value: id}}); err != nil {
		return err
	}
	_, err := g.pending.DeleteOne(ctx, byID(id))
	return err
}

// Open asks for the parts that hold the range, and no others.
func (g *GridFS) Open(ctx context.Context, name string, offset, n int64) (io.ReadCloser, error) {
	if err := checkRange(name, offset); err != nil {
		return nil, err
	}
	files, err := g.named(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", name, err)
	}
	if len(files) == 0 {
		return nil, errNone(name)
	}
	f := files[0]
	if f.Chunk < 1 || f.Length < 0 {
		return nil, fmt.Errorf("open blob %s: its document is damaged", name)
	}
	if offset >= f.Length || n == 0 {
		return io.NopCloser(strings.NewReader("")), nil
	}
	if n < 0 || n > f.Length-offset {
		n = f.Length - offset
	}
	first, last := offset/f.Chunk, (offset+n-1)/f.Chunk
	cursor, err := g.chunks.Find(ctx,
		bson.D{{Key: "files_id", Value: f.ID}, {Key: "n", Value: bson.D{{Key: "$gte", Value: first}, {Key: "$lte", Value: last}}}},
		options.Find().SetSort(bson.D{{Key: "n", Value: 1}}).SetBatchSize(gridBatch))
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", name, mongoError(err))
	}
	return &gridReader{ctx: ctx, cursor: cursor, file: f, next: first, skip: offset % f.Chunk, left: n}, nil
}

// gridReader reads parts in their order, of which none may be missing.
type gridReader struct {
	ctx    context.Context //nolint:containedctx // of the request that reads
	cursor *mongo.Cursor
	file   gridFile
	next   int64 // part
	skip   int64 // bytes of it
	left   int64 // bytes wanted
	part   []byte
}

func (r *gridReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if len(p) > 0 && len(r.part) == 0 {
		if err := r.advance(); err != nil {
			return 0, fmt.Errorf("read blob %s: %w", r.file.Name, err)
		}
	}
	n := copy(p, r.part)
	r.part, r.left = r.part[n:], r.left-int64(n)
	return n, nil
}

func (r *gridReader) advance() error {
	if !r.cursor.Next(r.ctx) {
		if err := r.cursor.Err(); err != nil {
			return mongoError(err)
		}
		return fmt.Errorf("part %d is missing: %w", r.next, io.ErrUnexpectedEOF)
	}
	var part gridPart
	if err := r.cursor.Decode(&part); err != nil {
		return err
	}
	if want := min(r.file.Chunk, r.file.Length-r.next*r.file.Chunk); int64(part.N) != r.next || int64(len(part.Data)) != want {
		return fmt.Errorf("part %d is missing or has not its size: %w", r.next, io.ErrUnexpectedEOF)
	}
	r.part = part.Data[r.skip:]
	r.part = r.part[:min(int64(len(r.part)), r.left)]
	r.next, r.skip = r.next+1, 0
	return nil
}

func (r *gridReader) Close() error {
	return mongoError(r.cursor.Close(context.WithoutCancel(r.ctx)))
}

// Delete removes every file of that name.
func (g *GridFS) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	files, err := g.named(ctx, name)
	for _, f := range files {
		err = errors.Join(err, mongoError(g.remove(ctx, f.ID)))
	}
	if err != nil {
		return fmt.Errorf("delete blob %s: %w", name, err)
	}
	return nil
}

// List yields the newest file of each name.
func (g *GridFS) List(ctx context.Context, yield func(carve.Info) error) error {
	cursor, err := g.files.Find(ctx, bson.D{}, options.Find().SetSort(newestFirst()))
	if err != nil {
		return fmt.Errorf("list blobs: %w", mongoError(err))
	}
	defer func() { _ = cursor.Close(context.WithoutCancel(ctx)) }()
	last := ""
	for cursor.Next(ctx) {
		var f gridFile
		if err := cursor.Decode(&f); err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		if f.Name == last || checkName(f.Name) != nil {
			continue
		}
		last = f.Name
		if err := yield(carve.Info{Name: f.Name, Size: f.Length, Modified: f.Uploaded}); err != nil {
			return err
		}
	}
	if err := cursor.Err(); err != nil {
		return fmt.Errorf("list blobs: %w", mongoError(err))
	}
	return nil
}

// Close ends the connections.
func (g *GridFS) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), gridFind)
	defer cancel()
	return g.client.Disconnect(ctx)
}

// mongoError tells what may pass by waiting from what the server refused.
func mongoError(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if _, refused := errors.AsType[mongo.ServerError](err); refused && !mongo.IsNetworkError(err) && !mongo.IsTimeout(err) {
		return fmt.Errorf("mongodb: %w", err)
	}
	return errs.Wrap(errs.Busy, err, "the store of the carves does not answer; try again later")
}

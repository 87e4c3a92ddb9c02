package sink

import (
	"bytes"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

// parquetRow is an event in a Parquet file. Columns and decorations are JSON, as each
// query has its own.
type parquetRow struct {
	ID             string    `parquet:"id"`
	Time           time.Time `parquet:"time,timestamp(microsecond)"`
	ReceivedAt     time.Time `parquet:"received_at,timestamp(microsecond)"`
	NodeID         string    `parquet:"node_id,dict"`
	HostIdentifier string    `parquet:"host_identifier,dict"`
	Tags           []string  `parquet:"tags,list"`
	Revision       int64     `parquet:"revision"`
	Query          string    `parquet:"query,dict"`
	Action         string    `parquet:"action,dict"`
	Epoch          int64     `parquet:"epoch"`
	Counter        int64     `parquet:"counter"`
	Columns        string    `parquet:"columns,json"`
	Decorations    string    `parquet:"decorations,json,dict"`
}

// parquetOf returns an object of columns.
func parquetOf(items []Item) (body []byte, ext, kind string, err error) {
	rows := make([]parquetRow, len(items))
	var w row
	var buf []byte
	for i := range items {
		r := &items[i].Record
		w.read(r)
		rows[i] = parquetRow{
			ID: items[i].ID, Time: r.Time.UTC(), ReceivedAt: r.Received.UTC(), NodeID: r.NodeID, HostIdentifier: r.HostIdentifier, Tags: r.Tags,
			Revision: r.Revision, Query: r.Query, Action: r.Action, Epoch: r.Epoch, Counter: r.Counter,
		}
		buf = appendPairs(buf[:0], w.columns)
		rows[i].Columns = string(buf)
		buf = appendPairs(buf[:0], w.marks)
		rows[i].Decorations = string(buf)
	}
	var out bytes.Buffer
	file := parquet.NewGenericWriter[parquetRow](&out, parquet.Compression(&zstd.Codec{Level: zstd.SpeedDefault}))
	if _, err := file.Write(rows); err != nil {
		return nil, "", "", err
	}
	err = file.Close()
	return out.Bytes(), ".parquet", "application/vnd.apache.parquet", err
}

package store

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/node"
)

// importChunk bounds the nodes that one transaction imports.
const importChunk = 1000

// ImportNodes keeps nodes of another manager under the keys that they have, and
// says in the same order what became of each. Each chunk is a transaction; with
// an error, the results that it returns are kept.
func (s *Store) ImportNodes(ctx context.Context, imports []node.Import) ([]node.Imported, error) {
	results := make([]node.Imported, 0, len(imports))
	for chunk := range slices.Chunk(imports, importChunk) {
		var part []node.Imported
		err := s.tx(ctx, func(t *tx) (err error) {
			part, err = t.importNodes(ctx, chunk)
			return err
		})
		if err != nil {
			return results, fail("import nodes", err)
		}
		results = append(results, part...)
	}
	return results, nil
}

func (t *tx) importNodes(ctx context.Context, imports []node.Import) ([]node.Imported, error) {
	version, err := t.next(ctx, counterNode, 1)
	if err != nil {
		return nil, err
	}
	there, err := t.keysOf(ctx, imports)
	if err != nil {
		return nil, err
	}
	used, err := t.usedKeys(ctx, imports)
	if err != nil {
		return nil, err
	}
	results := make([]node.Imported, 0, len(imports))
	for _, i := range imports {
		name := text(i.Node.HostIdentifier)
		key, known := there[name]
		result := node.ImportAdded
		switch {
		case known && key == i.Key:
			result = node.ImportKnown
		case known:
			result = node.ImportClash
		case used[i.Key]:
			result = node.ImportKeyUsed
		default:
			n := i.Node
			n.Version, n.TagSources = version, node.TaggedBy(node.SourceHand, i.Node.Tags)
			if _, err := t.insertNode(ctx, n, i.Key); err != nil {
				return nil, err
			}
			there[name], used[i.Key] = i.Key, i.Key != node.KeyHash{}
		}
		results = append(results, result)
	}
	return results, nil
}

// keysOf returns the keys of the nodes that are there, by host identifier.
func (t *tx) keysOf(ctx context.Context, imports []node.Import) (map[string]node.KeyHash, error) {
	names := make([]string, 0, len(imports))
	for _, i := range imports {
		names = append(names, i.Node.HostIdentifier)
	}
	list, err := idList(names)
	if err != nil {
		return nil, err
	}
	there := map[string]node.KeyHash{}
	_, err = all(ctx, t, func(row scanner) (name string, err error) {
		var key []byte
		err = row.Scan(&name, &key)
		there[name] = hash(key)
		return name, err
	}, `SELECT host_identifier, key_hash FROM node WHERE gone_at = 0 AND clone_of = ''
		AND host_identifier IN (SELECT t.name FROM `+t.dialect.bulk(1, "name text")+`)`, list)
	return there, err
}

// usedKeys returns which of the keys nodes have. There is no index of keys,
// which every enrolment would have to write: the whole table is read.
func (t *tx) usedKeys(ctx context.Context, imports []node.Import) (map[node.KeyHash]bool, error) {
	var list strings.Builder
	args := make([]any, 0, len(imports))
	for _, i := range imports {
		args = append(args, i.Key[:])
		list.WriteString(",$" + strconv.Itoa(len(args)))
	}
	among := ` IN (` + strings.TrimPrefix(list.String(), ",") + `)`
	used := map[node.KeyHash]bool{}
	_, err := all(ctx, t, func(row scanner) (key []byte, err error) {
		err = row.Scan(&key)
		used[hash(key)] = true
		return key, err
	}, `SELECT key_hash FROM node WHERE key_hash`+among+` UNION ALL SELECT old_key_hash FROM node WHERE old_key_hash`+among, args...)
	return used, err
}
